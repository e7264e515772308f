"""`forebay reuse` on a real Redis: why an answer was given, and which to look at."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from forebay_jobs.caches.hits import Hit, HitStore
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.messages import asker_name
from forebay_jobs.reuse.bounded import BoundedReuse
from forebay_jobs.reuse.decision import Decision, Verdict
from forebay_jobs.reuse.estimator import shipped_prior
from forebay_jobs.reuse.neighbourhood import Candidate
from forebay_ops.cli import reuse as commands

from tests.builders import NOW_MS
from tests.jobs.doubles import metrics
from tests.redis_server import RedisServer

ASKED, KNOWN = "How long is delivery to France?", "How long is delivery to Spain?"
FIXED = Decision(verdict=Verdict.REUSED, policy="fixed", similarity=0.97, threshold=0.95)


@pytest.fixture
def hits(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> HitStore:
    file = tmp_path / "forebay.toml"
    file.write_text(f'[redis]\nurl = "{redis_server.url}"\n')
    monkeypatch.setenv("FOREBAY_CONFIG", str(file))
    config = redis_server.config()
    return HitStore(config, RedisStore(config, metrics()))


@pytest.fixture
def forebay() -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(commands.reuse, arguments)


def a_hit(request_id: str, decision: Decision = FIXED, tenant: str = "acme") -> Hit:
    return Hit(
        name=asker_name(tenant, request_id), owner=f"tenant:{tenant}", category="faq", digest="0" * 32, question=ASKED,
        matched_question=KNOWN, decision=decision, given_ms=NOW_MS,
    )  # fmt: skip


def test_explain_tells_both_questions_and_what_decided(hits: HitStore, forebay: Callable[..., Result]) -> None:
    hits.note([a_hit("row-17")])
    result = forebay("explain", "row-17", "--tenant", "acme")
    assert result.exit_code == 0
    for part in (ASKED, KNOWN, "0.9700", "fixed: at least as similar as 0.9500", "2025-10-09", "none"):
        assert part in result.stdout
    hits.mark(a_hit("row-17"), "user")
    told = json.loads(forebay("explain", "row-17", "--tenant", "acme", "--json").stdout)
    assert (told["request_id"], told["tenant"], told["complaint"]) == ("row-17", "acme", "user")


def test_explain_shows_what_the_bounded_policy_saw(hits: HitStore, forebay: Callable[..., Result]) -> None:
    near = Candidate(question=KNOWN, similarity=0.97, group="g")
    decision = BoundedReuse(0.01, shipped_prior()).decide("r", ASKED, [near])
    hits.note([a_hit("row-17", decision)])
    result = forebay("explain", "row-17", "--tenant", "acme")
    assert "bounded: wrong with a chance of" in result.stdout
    assert "content_missing" in result.stdout or "overlap" in result.stdout


def test_explain_says_why_there_may_be_nothing(hits: HitStore, forebay: Callable[..., Result]) -> None:
    hits.note([a_hit("row-17")])
    result = forebay("explain", "row-17")
    assert result.exit_code == 1
    assert "row-17 of default" in result.output
    assert "--tenant" in result.output


def test_hits_lists_complaints_first_then_the_most_doubtful(hits: HitStore, forebay: Callable[..., Result]) -> None:
    assert "no answer was given by meaning" in forebay("hits").stdout
    unlike = Decision(verdict=Verdict.REUSED, policy="fixed", similarity=0.95, threshold=0.95)
    hits.note([a_hit("sure"), a_hit("doubtful", unlike), a_hit("wrong", tenant="b:c")])
    hits.mark(a_hit("wrong", tenant="b:c"), "user")
    rows = [json.loads(line) for line in forebay("hits", "--worst", "2", "--json").stdout.splitlines()]
    assert [(row["tenant"], row["request_id"]) for row in rows] == [("b:c", "wrong"), ("acme", "doubtful")]
    table = forebay("hits").stdout
    assert table.index("wrong") < table.index("doubtful") < table.index("sure")


def test_without_redis_the_address_is_named(
    hits: HitStore, forebay: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_REDIS__URL", "redis://user:secret@localhost:1/0")
    result = forebay("hits")
    assert result.exit_code == 1
    assert "localhost:1" in result.output
    assert "secret" not in result.output
