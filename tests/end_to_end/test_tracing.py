"""On the whole stack one request is one trace, through client, job and worker, and latencies lead to it."""

import uuid
from dataclasses import dataclass

import pytest
from forebay_client import Client, Reply

from ..waiting import eventually
from .conftest import RunningStack

MISS = """
forebay-client request
  forebay-job job
    forebay-job desk wait
    forebay-job dispatch
      forebay-worker task
        forebay-worker commit
        forebay-worker generation
        forebay-worker queue
        forebay-client reply
    forebay-job embedding
    forebay-job exact lookup
    forebay-job semantic lookup
"""
EXACT = """
forebay-client request
  forebay-job job
    forebay-job exact lookup
    forebay-client reply
"""


@dataclass(frozen=True)
class Traced:
    """A reply, and the trace that its request was part of."""

    reply: Reply
    trace_id: str
    parent_id: str


def _ask(client: Client, question: str) -> Traced:
    """A request of a caller whose trace is recorded."""
    trace_id, parent_id = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    reply = client.ask(question, timeout_s=60, category="support", traceparent=f"00-{trace_id}-{parent_id}-01")
    return Traced(reply, trace_id, parent_id)


@pytest.fixture(scope="module")
def traced(running: RunningStack) -> dict[str, Traced]:
    """By cache status: one request that was generated, and one that was answered with the same."""
    with running.client(tenant="north") as client:
        # A model of random weights finds no end to some answers, and those are not kept.
        for number in range(100):
            question = f"What is lock number {number}?"
            miss, again = _ask(client, question), _ask(client, question)
            if again.reply.cache_status == "exact":
                return {"miss": miss, "exact": again}
    raise AssertionError("no answer was kept")


@pytest.mark.parametrize(("status", "tree"), [("miss", MISS), ("exact", EXACT)])
def test_one_request_is_one_trace(running: RunningStack, traced: dict[str, Traced], status: str, tree: str) -> None:
    asked, expected = traced[status], tree.strip().split("\n")
    eventually(lambda: running.collector.count(asked.trace_id) >= len(expected), f"{len(expected)} spans")
    assert running.collector.tree(asked.trace_id, asked.parent_id) == expected
    assert running.collector.count(asked.trace_id) == len(expected)


@pytest.mark.parametrize(("part", "status"), [("worker", "miss"), ("job", "exact")])
def test_a_latency_leads_to_its_trace(running: RunningStack, traced: dict[str, Traced], part: str, status: str) -> None:
    buckets = [each for each in running.samples(part) if each.name == "forebay_reply_latency_seconds_bucket"]
    found = {each.exemplar.labels["trace_id"] for each in buckets if each.exemplar}
    assert traced[status].trace_id in found
