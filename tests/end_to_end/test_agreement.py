"""One run without faults, told four times: replies, ledger, metrics and report agree on how many and how much."""

import datetime as dt
import html
import json
import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import pyarrow.parquet as pq
import pytest
from forebay_client import Client
from forebay_ops.figures import money
from forebay_ops.ledger.folder import current_files
from forebay_ops.reporting.page import page
from forebay_ops.reporting.query import query
from forebay_ops.reporting.sums import Sums
from forebay_schemas.records import CacheOptions, CachePolicy, CacheStatus, Hop, Lane, Reply, Usage

from ..waiting import eventually
from .conftest import RunningStack
from .traffic import QUESTIONS, Inbox

JSON = json.dumps({"type": "json_object"})
BYPASS = CacheOptions(policy=CachePolicy.BYPASS)
REUSED = (CacheStatus.EXACT, CacheStatus.SEMANTIC, CacheStatus.JOINED)
TOKENS = ("prompt_tokens", "completion_tokens", "cached_prompt_tokens")
HOP = ("tier", "reason", "cost", *TOKENS)
ROW = (
    "tenant", "endpoint", "category", "lane", "cache_status", "tier", "error_code", "total_ms", "cost", "baseline_cost",
    "repeat", *TOKENS,
)  # fmt: skip

Account = dict[tuple[str, ...], float]
"""Sums by a metric's name and the values of some of its labels."""

MADE = ("cache_status", "lane", "tier")
COMPARED = {
    "forebay_requests_total": ("lane",),
    "forebay_replies_total": (*MADE, "outcome"),
    "forebay_reply_tokens_total": (*MADE, "kind"),
    "forebay_reply_cost_dollars_total": MADE,
    "forebay_reply_baseline_dollars_total": MADE,
    "forebay_reply_latency_seconds_count": MADE,
    "forebay_reply_latency_seconds_sum": MADE,
    "forebay_endpoint_replies_total": ("tenant", "endpoint", "cache_status", "outcome"),
    "forebay_endpoint_cost_dollars_total": ("tenant", "endpoint"),
    "forebay_endpoint_baseline_dollars_total": ("tenant", "endpoint"),
    "forebay_cost_dollars_total": ("tier", "lane"),
    "forebay_worker_tokens_total": ("tier", "kind"),
    "forebay_worker_escalations_total": ("tier", "reason"),
    "forebay_ledger_replies_total": (),
}


@dataclass(frozen=True)
class Run:
    """What the client saw, when it began, and by how much the metrics grew."""

    began: dt.datetime
    replies: list[Reply]
    grown: Account


class Asking:
    """Requests, and the replies to them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = Inbox()
        self._sent = 0

    def ask(self, question: str, **fields: Any) -> None:
        self._sent += 1
        usual: dict[str, Any] = {
            "request_id": f"tally-{self._sent}",
            "tenant": "north",
            "category": "support",
            "endpoint": "desk",
        }
        self._client.publish(question, on_reply=self._inbox.take, **usual | fields)

    @property
    def answered(self) -> bool:
        """Whether each request so far has its reply."""
        return len(self._inbox) == self._sent

    def take_back(self) -> None:
        """Cancel the last request, which may have its answer by then."""
        self._client.cancel(f"tally-{self._sent}", tenant="north")

    def replies(self) -> list[Reply]:
        """One to each request so far."""
        self._client.flush()
        eventually(lambda: self.answered, f"{self._sent} replies")
        assert {len(came) for came in self._inbox.replies.values()} == {1}
        return [reply for (reply,) in self._inbox.replies.values()]


@pytest.fixture(scope="module")
def run(running: RunningStack) -> Run:
    before = _settled(running)
    began = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    with running.client() as client:
        replies = _of_every_kind(Asking(client), running)
    written = ("forebay_ledger_replies_total",)
    eventually(
        lambda: _counted(running)[written] == before.get(written, 0) + len(replies), "the ledger has all of them"
    )
    after = _settled(running)
    return Run(began, replies, {key: value - before.get(key, 0) for key, value in after.items()})


def _of_every_kind(asking: Asking, running: RunningStack) -> list[Reply]:
    about = [(f"{original} I have the tally.", f"{again} I have the tally.") for original, again in QUESTIONS.items()]
    for original, _ in about:
        asking.ask(original)
    for lane in Lane:
        for _ in range(6):
            asking.ask(f"What does a sluice do on the {lane} lane?", lane=lane, tenant="south", endpoint=None)
    for number in range(4):
        # Long enough for the larger tiers to find its beginning in the prefix cache.
        asking.ask(f"Why is weir {number} dry? {'Think twice. ' * 20}", category="hard", endpoint="lab")
        asking.ask(f"How deep is pond {number}?", category="hard", endpoint="lab", lane="batch")
        asking.ask(f"Describe mill {number}.", category="hard", endpoint="lab", response_format=JSON)
        asking.ask("What is a penstock?", cache=BYPASS)
    asking.ask("x" * 5000)  # the worker finds that this is more than its model reads
    asking.ask("Is it too late?", deadline_ms=time.time_ns() // 1_000_000 - 1)  # the job finds that it is
    asking.replies()
    asking.ask("How many reeds grow at the bank?", category="hard", cache=BYPASS)
    # A tiny model may be done before anybody looks; then there is nothing to take back, and the rest counts as ever.
    being_generated = "forebay_worker_inflight"
    eventually(lambda: asking.answered or running.total("worker", being_generated), "it is being generated, or was")
    asking.take_back()
    for original, rewording in about:
        asking.ask(original, endpoint="again")
        asking.ask(rewording, endpoint="again")
    return asking.replies()


def _settled(running: RunningStack) -> Account:
    """What the metrics say once they stay as they are: a reply may be seen a moment before it is counted."""
    while True:
        counted = _counted(running)
        threading.Event().wait(0.5)
        if counted == _counted(running):
            return counted


def _counted(running: RunningStack) -> Account:
    account: Account = defaultdict(float)
    for part in ("job", "worker", "ledger"):
        for sample in running.samples(part):
            if sample.name in COMPARED:
                account[sample.name, *(sample.labels[label] for label in COMPARED[sample.name])] += sample.value
    return account


# The tests


def test_the_run_has_replies_of_every_kind(run: Run) -> None:
    assert {reply.cache_status for reply in run.replies} == set(CacheStatus)
    assert {reply.lane for reply in run.replies} == set(Lane)
    assert {reply.tier for reply in run.replies} >= {"small", "large", None}
    codes = {reply.error.code for reply in run.replies if reply.error}
    assert codes >= {"context_length_exceeded", "deadline_exceeded"}
    assert "confidence" in {hop.reason for reply in run.replies for hop in reply.path}
    assert {reply.cache_status for reply in run.replies if reply.lane is Lane.BATCH} >= {"miss", "joined"}
    assert any(reply.usage.cached_prompt_tokens for reply in run.replies)


def test_the_ledgers_rows_are_the_replies(run: Run, running: RunningStack) -> None:
    files = current_files(running.config.ledger.folder)
    read = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    rows = [row for row in read if row["request_id"].startswith("tally-")]
    assert len(rows) == len(run.replies)
    assert {row["request_id"]: _told(row) for row in rows} == {reply.request_id: _row(reply) for reply in run.replies}


def test_the_metrics_grew_by_what_the_replies_say(run: Run) -> None:
    assert _without_zeros(run.grown) == pytest.approx(_without_zeros(_metrics_of(run.replies)), rel=1e-9)


def test_the_stages_of_a_reply_add_up_to_its_time(run: Run) -> None:
    for reply in run.replies:
        told = reply.latency
        stages_ms = told.queue_ms + told.embedding_ms + told.lookup_ms + told.generation_ms
        assert stages_ms == pytest.approx(told.total_ms), reply


def test_the_report_adds_up_what_the_replies_say(run: Run, running: RunningStack) -> None:
    by: dict[tuple[str, ...], Callable[[Reply], tuple[str, ...]]] = {
        ("cache", "lane", "tier"): lambda reply: (reply.cache_status, reply.lane, reply.tier or "-"),
        ("tenant", "endpoint"): lambda reply: (reply.tenant, reply.endpoint or "-"),
        ("category",): lambda reply: (reply.category,),
    }
    found = query(running.config.ledger.folder, since=run.began, now=run.began, by=list(by))
    _assert_sums(found.totals, run.replies)
    for grouping, key_of in zip(found.groupings, by.values(), strict=True):
        assert {group.key for group in grouping.groups} == {key_of(reply) for reply in run.replies}
        for group in grouping.groups:
            _assert_sums(group.sums, [reply for reply in run.replies if key_of(reply) == group.key])


def test_the_page_shows_what_the_replies_say(run: Run, running: RunningStack) -> None:
    by_tier: dict[str, list[Reply]] = defaultdict(list)
    for reply in run.replies:
        by_tier[reply.tier or "-"].append(reply)
    found = query(running.config.ledger.folder, since=run.began, now=run.began, by=[("tier",)])
    shown = html.unescape(page(found, "Tally"))
    for name, figure in (
        ("requests", f"{len(run.replies):,}"),
        ("spent", money(math.fsum(reply.cost for reply in run.replies))),
        ("all sent to the largest tier", money(math.fsum(reply.baseline_cost for reply in run.replies))),
    ):
        assert f"<tr><td>{name}</td><td>{figure}</td></tr>" in shown
    for tier, replies in by_tier.items():
        assert f"<tr><td>{tier}</td><td>{len(replies):,}</td>" in shown


# What the replies say, in the words of each of the others


def _row(reply: Reply) -> dict[str, Any]:
    return {
        "tenant": reply.tenant,
        "endpoint": reply.endpoint,
        "category": reply.category,
        "lane": reply.lane,
        "cache_status": reply.cache_status,
        "tier": reply.tier,
        "error_code": reply.error.code if reply.error else None,
        "total_ms": reply.latency.total_ms,
        "cost": reply.cost,
        "baseline_cost": reply.baseline_cost,
        "repeat": False,
        **_tokens(reply.usage),
        "path": [
            {"tier": hop.tier, "reason": hop.reason, "cost": hop.cost, **_tokens(hop.usage)} for hop in reply.path
        ],
    }


def _tokens(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in TOKENS}


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """What is compared of a row."""
    path = [{name: hop[name] for name in HOP} for hop in row["path"]]
    return {name: row[name] for name in ROW} | {"path": path}


def _metrics_of(replies: Iterable[Reply]) -> Account:
    account: Account = defaultdict(float)
    for reply in replies:
        made = (reply.cache_status, reply.lane, reply.tier or "none")
        asked = (reply.tenant, reply.endpoint or "none")
        outcome = reply.error.code if reply.error else "ok"
        account["forebay_requests_total", reply.lane] += 1
        account["forebay_ledger_replies_total",] += 1
        account["forebay_replies_total", *made, outcome] += 1
        account["forebay_endpoint_replies_total", *asked, reply.cache_status, outcome] += 1
        account["forebay_reply_tokens_total", *made, "prompt"] += reply.usage.prompt_tokens
        account["forebay_reply_tokens_total", *made, "completion"] += reply.usage.completion_tokens
        for by, labels in (("reply", made), ("endpoint", asked)):
            account[f"forebay_{by}_cost_dollars_total", *labels] += reply.cost
            account[f"forebay_{by}_baseline_dollars_total", *labels] += reply.baseline_cost
        if not reply.error:
            account["forebay_reply_latency_seconds_count", *made] += 1
            account["forebay_reply_latency_seconds_sum", *made] += reply.latency.total_ms / 1000
        generations = _generations(reply)
        for generation, following in zip_longest(generations, generations[1:]):
            tier, usage = generation.tier, generation.usage
            account["forebay_cost_dollars_total", tier, reply.lane] += generation.cost
            account["forebay_worker_tokens_total", tier, "prompt"] += usage.prompt_tokens
            account["forebay_worker_tokens_total", tier, "cached_prompt"] += usage.cached_prompt_tokens
            account["forebay_worker_tokens_total", tier, "completion"] += usage.completion_tokens
            if following and following.tier != tier:
                account["forebay_worker_escalations_total", tier, generation.reason] += 1
    return account


def _without_zeros(account: Account) -> Account:
    return {key: value for key, value in account.items() if value}


def _generations(reply: Reply) -> list[Hop]:
    """All that was generated for a reply, the answer last."""
    if not (reply.hops or reply.path):
        return []
    cost = reply.cost - sum(hop.cost for hop in reply.path)
    return [*reply.path, Hop(tier=reply.tier or "", model_id="", reason="answered", usage=reply.usage, cost=cost)]


def _assert_sums(sums: Sums, replies: Sequence[Reply]) -> None:
    answers = Counter(reply.cache_status for reply in replies if not reply.error)
    expected = {
        "replies": len(replies),
        "errors": len(replies) - answers.total(),
        **{status.value: answers[status] for status in REUSED},
        "generated": answers[CacheStatus.MISS] + answers[CacheStatus.BYPASS],
        "escalated": sum(generation.tier != reply.tier for reply in replies for generation in _generations(reply)[:1]),
        "reviews": sum(reply.review for reply in replies),
        "tokens": sum(reply.usage.prompt_tokens + reply.usage.completion_tokens for reply in replies),
        "cost": math.fsum(reply.cost for reply in replies),
        "baseline_cost": math.fsum(reply.baseline_cost for reply in replies),
    }
    assert {name: getattr(sums, name) for name in expected} == pytest.approx(expected, rel=1e-9)
