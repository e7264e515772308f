"""`forebay replay` and `forebay acceptance` on a broker in memory: what is sent and when, and what is reported."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from forebay_client import Reply, Request, core
from forebay_ops.cli import replay as commands
from forebay_ops.replay import player
from forebay_schemas import prices
from forebay_schemas.config import load_config
from forebay_schemas.records import CachePolicy, CacheStatus, ReplyError, Usage

from tests.builders import make_reply, make_route
from tests.producers.doubles import MemoryKafka, silence

USAGE = Usage(prompt_tokens=40, completion_tokens=20)


class Desk:
    """A pipeline that answers at once: what it was asked before from its cache, all else by the small tier.

    Args:
        alike: questions that it takes for others.
    """

    def __init__(self, alike: dict[str, str] | None = None) -> None:
        self.asked: list[Request] = []
        self._alike = alike or {}
        self._known: dict[tuple[str | None, str], str] = {}

    def __call__(self, request: Request) -> list[Reply]:
        if request.cache.policy is CachePolicy.BYPASS:  # the one that only finds out whether anybody answers
            return [make_reply(request_id=request.request_id, tenant=request.tenant)]
        self.asked.append(request)
        return [self._reply(request)]

    def _reply(self, request: Request) -> Reply:
        config, question = load_config(), request.messages[-1].content or ""
        for status, meaning in ((CacheStatus.EXACT, question), (CacheStatus.SEMANTIC, self._alike.get(question, ""))):
            if matched := self._known.get((request.prompt_version, meaning)):
                fields = {"cache_status": status, "matched_request_id": matched, "hops": 0, "cost": 0.0}
                break
        else:
            self._known[request.prompt_version, question] = request.request_id
            fields = {"cost": prices.cost(USAGE, config.price("small"), request.lane), "route": make_route()}
        ids = {"request_id": request.request_id, "tenant": request.tenant}
        return make_reply(**ids, usage=USAGE, baseline_cost=prices.baseline_cost(USAGE, config), **fields)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def kafka(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> MemoryKafka:
    memory = MemoryKafka(answer=desk)
    monkeypatch.setattr(core, "Outbox", memory.outbox)
    monkeypatch.setattr(core, "Inbox", memory.inbox)
    return memory


@pytest.fixture
def trace(tmp_path: Path) -> Callable[..., str]:
    def write(*lines: dict[str, Any]) -> str:
        file = tmp_path / "trace.jsonl"
        file.write_text("".join(f"{json.dumps({'at_ms': number} | line)}\n" for number, line in enumerate(lines)))
        return str(file)

    return write


def play(*arguments: str, command: Any = commands.replay) -> Result:
    return CliRunner().invoke(command, [*arguments])


def figures(tmp_path: Path, *arguments: str, command: Any = commands.replay) -> dict[str, Any]:
    file = tmp_path / "figures.json"
    result = play(*arguments, "--json", str(file), command=command)
    assert result.exit_code == 0, result.output
    return json.loads(file.read_text())


ASKED = (
    {"question": "Where is my card?", "label": "card"},
    {"question": "Where is my card?", "label": "card"},
    {"question": "Where is my cart?", "label": "shop"},
    {"question": "When does my card come?", "label": "card"},
)


def test_it_reports_what_was_reused_and_what_of_that_was_wrong(
    kafka: MemoryKafka, trace: Callable[..., str], tmp_path: Path
) -> None:
    kafka.answer = Desk({"Where is my cart?": "Where is my card?"})
    found = figures(tmp_path, trace(*ASKED))["replay"]
    assert found["asked"] == {"first": 2, "verbatim": 1, "reworded": 1}
    assert [(kind["kind"], kind["answers"], kind["wrong"]) for kind in found["reuse"]] == [
        ("exact", 1, 0),
        ("semantic", 1, 1),
        ("joined", 0, 0),
    ]
    totals = found["report"]["totals"]
    assert (totals["replies"], totals["exact"], totals["semantic"], totals["generated"]) == (4, 1, 1, 2)
    config = load_config()
    assert totals["baseline_cost"] == pytest.approx(4 * prices.baseline_cost(USAGE, config))
    assert totals["cost"] == pytest.approx(2 * (40 * 0.00005 + 20 * 0.00008) / 1000)

    output = play(trace(*ASKED)).stdout
    for row in ("semantic 1 1 25.00% 100.00% 0", "exact 1 0 0.00% 0.00% 0", "asked again, in other words 1 (25.0%)"):
        assert row in " ".join(output.split())


def test_latency_counts_from_the_moment_at_which_a_request_was_to_be_sent(
    kafka: MemoryKafka, desk: Desk, trace: Callable[..., str], tmp_path: Path
) -> None:

    def held_up(request: Request) -> list[Reply]:
        if request.messages[-1].content == ASKED[0]["question"] and not desk.asked:
            time.sleep(0.1)  # the sender itself waits
        return desk(request)

    kafka.answer = held_up
    found = figures(tmp_path, trace(*ASKED[:1], *ASKED[2:]))["replay"]
    (miss,) = found["report"]["by_status"]
    assert (miss["name"], miss["answers"]) == ("miss", 3)
    assert 80 < found["late_most_ms"] < miss["p99_ms"]
    assert miss["p50_ms"] > 80


def test_every_replay_begins_cold_and_its_requests_are_its_own(
    kafka: MemoryKafka, desk: Desk, trace: Callable[..., str], tmp_path: Path
) -> None:
    recorded = {"request_id": "row-1", "deadline_ms": 1, "prompt_version": "v7", "tenant": "acme", "created_ms": 3}
    file = trace(ASKED[0] | recorded, ASKED[0])
    for _ in range(2):
        assert figures(tmp_path, file)["replay"]["report"]["totals"]["exact"] == 0  # other versions are not equal
    first, second, third, _ = desk.asked
    assert (first.tenant, second.tenant, first.deadline_ms) == ("acme", "replay", None)
    assert (first.prompt_version or "").endswith(" v7")
    assert len({first.request_id, second.request_id, third.request_id, "row-1"}) == 4
    assert first.prompt_version != third.prompt_version
    assert first.created_ms > 3


def test_a_warm_replay_reuses_what_was_answered_before(
    kafka: MemoryKafka, trace: Callable[..., str], tmp_path: Path
) -> None:
    found = [figures(tmp_path, trace(ASKED[0]), "--warm")["replay"] for _ in range(2)]
    assert [each["report"]["totals"]["exact"] for each in found] == [0, 1]
    assert found[1]["reuse"][0] == {"kind": "exact", "answers": 1, "wrong": 0, "unknown": 1}


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{second:02d}.500,1000,{100 * second}\n" for second in range(1, 4)
)


@pytest.fixture
def public(tmp_path: Path) -> tuple[str, str]:
    """A public trace, and texts to go with it."""
    azure, texts = tmp_path / "azure.csv", tmp_path / "texts.jsonl"
    azure.write_text(AZURE)
    texts.write_text(
        '{"text": "Where is my card?", "intent": "card"}\n{"text": "What is an IBAN?", "intent": "iban"}\n'
    )
    return str(azure), str(texts)


def test_a_public_trace_asks_labelled_texts_and_is_charged_for_its_own_tokens_too(
    kafka: MemoryKafka, desk: Desk, public: tuple[str, str], tmp_path: Path
) -> None:
    azure, texts = public
    options = ("--texts", texts, "--speed", "100", "--fields", '{"category": "support"}')
    found = figures(tmp_path, azure, *options)["replay"]
    asked = desk.asked
    assert [(each.messages[0].content, each.category) for each in asked] == [
        ("Where is my card?", "support"),
        ("What is an IBAN?", "support"),
        ("Where is my card?", "support"),
    ]
    assert found["asked_per_s"] == pytest.approx(100)
    # The third is reused: it costs nothing, and would have cost the largest tier's price.
    assert found["at_trace_length"] == {
        "requests": 3,
        "cost": pytest.approx((2 * 1000 * 0.00005 + 300 * 0.00008) / 1000),
        "baseline_cost": pytest.approx((3 * 1000 + 600) * 0.0035 / 1000),
    }


def test_a_dry_run_sends_nothing_and_what_it_writes_is_what_would_be_played(
    kafka: MemoryKafka, public: tuple[str, str], tmp_path: Path
) -> None:
    azure, texts = public
    written, again = tmp_path / "written.jsonl", tmp_path / "again.jsonl"
    result = play(azure, "--texts", texts, "--rate", "10", "--dry-run", "--write", str(written))
    assert (result.exit_code, kafka.sent) == (0, [])
    assert "3 requests in 0 s; nothing was sent" in result.stderr
    assert json.loads(written.read_text().splitlines()[1]) == {
        "at_ms": 100.0,
        "tenant": "replay",
        "question": "What is an IBAN?",
        "label": "iban",
        "prompt_tokens": 1000,
        "completion_tokens": 200,
    }
    assert play(str(written), "--dry-run", "--write", str(again)).exit_code == 0
    assert again.read_text() == written.read_text()


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        ([{}], (), "this trace tells no texts; say with --texts FILE"),
        ([{}], ("--speed", "2", "--rate", "3"), "leave one of them out"),
        ([{}], ("--limit", "2", "--sample", "3"), "--limit and --sample both say how many; leave one of them out"),
        ([ASKED[0]], ("--fields", "category"), "is no JSON object; give one"),
        ([ASKED[0], {"question": "Two?", "max_token": 5}], (), "request 2 of the trace: max_token: is no field"),
        ([ASKED[0], {"question": "Two?", "max_tokens": -5}], (), "request 2 of the trace: max_tokens: is -5"),
    ],
)
def test_what_cannot_be_sent_is_told_before_anything_is(
    kafka: MemoryKafka, trace: Callable[..., str], lines: list[dict[str, Any]], options: tuple[str, ...], said: str
) -> None:
    result = play(trace(*lines), *options)
    assert result.exit_code != 0
    assert said in result.output + str(result.exception)
    assert kafka.sent == []


def test_a_trace_without_requests_is_refused(kafka: MemoryKafka, public: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text(AZURE.splitlines()[0])
    result = play(str(tmp_path / "empty.csv"), "--texts", public[1])
    assert (result.exit_code, kafka.sent) == (2, [])
    assert "holds no request" in result.stderr


def test_without_a_pipeline_nothing_is_sent(
    kafka: MemoryKafka, trace: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player, "_FIRST_ANSWER_S", 0.1)
    kafka.answer = silence
    result = play(trace(*ASKED))
    assert result.exit_code == 1
    assert "`forebay up` starts one here" in str(result.exception)
    assert len(kafka.sent) == 1


def test_errors_and_silence_are_told_and_what_is_silent_is_taken_back(
    kafka: MemoryKafka, desk: Desk, trace: Callable[..., str], tmp_path: Path
) -> None:
    error = ReplyError(code="engine_failed", message="the engine broke", retryable=True)

    def answer(request: Request) -> list[Reply]:
        (reply,) = desk(request)
        match request.messages[-1].content:
            case "Break!":
                return [make_reply(request_id=reply.request_id, tenant=reply.tenant, text="", error=error)]
            case "Silence!":
                return []
        return [reply]

    kafka.answer = answer
    lines = [ASKED[0], {"question": "Break!"}, {"question": "Silence!"}]
    result = play(trace(*lines), "--timeout", "0.2", "--json", str(tmp_path / "figures.json"))
    assert result.exit_code == 1
    found = json.loads((tmp_path / "figures.json").read_text())["replay"]
    assert (found["unanswered"], found["report"]["totals"]["errors"]) == (1, 1)
    assert found["failures"] == [
        {"kind": "engine_failed", "requests": 1, "example": "the engine broke"},
        {"kind": "TakenBack", "requests": 1, "example": "nothing came for 0.2 s before its reply"},
    ]
    assert kafka.cancelled == [("replay", desk.asked[-1].request_id)]


def test_ctrl_c_sends_no_more_takes_back_what_is_unanswered_and_reports(
    kafka: MemoryKafka, desk: Desk, trace: Callable[..., str]
) -> None:

    def answer(request: Request) -> list[Reply]:
        (reply,) = desk(request)
        if len(desk.asked) < 2:
            return [reply]
        os.kill(os.getpid(), signal.SIGINT)
        return []

    kafka.answer = answer
    before = signal.getsignal(signal.SIGINT)
    result = play(trace(*ASKED))
    assert signal.getsignal(signal.SIGINT) is before
    assert result.exit_code == 1
    assert len(desk.asked) == 2
    assert kafka.cancelled[-1] == ("replay", desk.asked[1].request_id)  # the first's reply may have come too late too
    for said in ("2 of 4", "stopped before 2 requests", "TakenBack: the replay was stopped"):
        assert said in result.stdout


# --- acceptance


@pytest.fixture
def texts(tmp_path: Path) -> str:
    file = tmp_path / "texts.jsonl"
    texts = [{"text": f"About the {label}, {number}?", "intent": label} for label in "abc" for number in range(20)]
    file.write_text("".join(f"{json.dumps(text)}\n" for text in texts))
    return str(file)


@pytest.mark.parametrize(("alike", "met"), [({}, True), ({"About the a, 1?": "About the b, 2?"}, False)])
def test_acceptance_says_whether_each_goal_is_met(
    kafka: MemoryKafka, texts: str, tmp_path: Path, alike: dict[str, str], met: bool
) -> None:
    kafka.answer = Desk(alike)
    options = ("--texts", texts, "--queries", "200", "--rate", "2000")
    found = figures(tmp_path, *options, command=commands.acceptance)
    saving, degradation = found["goals"]
    wrong = sum(kind["wrong"] for kind in found["replay"]["reuse"])
    assert (saving["met"], degradation["met"]) == (True, met)
    assert (degradation["measured"], wrong > 0) == (wrong / 200, not met)
    assert sum(found["replay"]["asked"].values()) == 200
    said = play(*options, command=commands.acceptance).stdout
    assert f"less than 0.3%: {wrong / 200:.2%}, {'met' if met else 'missed'}" in said


def test_what_a_load_test_s_backend_costs_meets_no_goal(
    kafka: MemoryKafka, desk: Desk, texts: str, tmp_path: Path
) -> None:
    kafka.answer = lambda request: [msgspec.structs.replace(reply, synthetic=True) for reply in desk(request)]
    found = figures(tmp_path, "--texts", texts, "--queries", "20", "--rate", "2000", command=commands.acceptance)
    assert [goal["met"] for goal in found["goals"]] == [None, True]


def test_acceptance_asks_a_desk_with_its_own_settings(kafka: MemoryKafka, desk: Desk, texts: str) -> None:
    play("--texts", texts, "--queries", "20", "--rate", "2000", command=commands.acceptance)
    for request in desk.asked:
        assert (request.tenant, request.category, request.endpoint) == ("acceptance", "support", "/support")
        assert request.static_messages[0].role == "system"
