"""What the benchmarks reckon: rates and latencies of replies, shares of answers, and the steps of a worker's start."""

import os
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import pytest
from forebay_ops.bench import output, prefix, prompts, traffic, worker
from forebay_ops.bench.bare import Batch, Taken
from forebay_ops.bench.lanes import Backlog
from forebay_ops.bench.process import Process
from forebay_ops.bench.traffic import Seen
from forebay_schemas.records import Latency, Request, Usage

from ..builders import make_reply

LOAD = worker.Load(together=4, alone=2, max_tokens=10)


class Topic:
    """Tasks and replies at once: each task is answered as soon as it is sent, with ten tokens in 30 of 50 ms."""

    def __init__(self) -> None:
        self.sent: dict[str, Request] = {}
        self.keys: list[str | None] = []
        self._now_s = time.monotonic()

    def send(self, requests: Iterable[Request], tier: str = "only", key: str | None = None) -> None:
        for request in requests:
            self.sent[request.request_id] = request
            self.keys.append(key)

    def take(self, request_ids: Iterable[str], check: Callable[[], None]) -> dict[str, Seen]:
        usage = Usage(prompt_tokens=100, cached_prompt_tokens=75, completion_tokens=10)
        latency = Latency(generation_ms=30.0)
        return {
            request_id: Seen(make_reply(request_id=request_id, usage=usage, latency=latency), time.monotonic() + 0.05)
            for request_id in request_ids
            if request_id in self.sent
        }


@pytest.fixture
def process(tmp_path: Path) -> Process:
    log = tmp_path / "worker.log"
    it = Process("worker", ["true"], dict(os.environ), log, piped=False)
    it.end()
    return it


def test_added_latency_is_what_the_generation_did_not_take(process: Process) -> None:
    topic = Topic()
    figures = worker.WorkerSide(topic, topic, process, LOAD).measure()  # pyright: ignore[reportArgumentType]
    assert len(topic.sent) == LOAD.together + LOAD.alone
    assert figures["alone_p50_ms"] - figures["added_p50_ms"] == pytest.approx(30)
    assert figures["added_p50_ms"] >= 20
    assert 0 < figures["tokens_per_s"] <= 40 / 0.05


class Bare:
    """Answers each conversation with ten tokens in 20 ms."""

    def __init__(self) -> None:
        self.asked: list[Batch] = []

    def answer(self, batch: Batch) -> Taken:
        self.asked.append(batch)
        count = len(batch.conversations)
        return Taken([0.02] * count if batch.one_by_one else [0.02 * count], 10 * count)


def test_bare_vllm_and_the_worker_are_asked_the_same_and_never_the_same_twice(process: Process) -> None:
    bare, topic = Bare(), Topic()
    sides = (
        worker.BareSide(bare, LOAD),  # pyright: ignore[reportArgumentType]
        worker.WorkerSide(topic, topic, process, LOAD),  # pyright: ignore[reportArgumentType]
    )
    figures = [side.measure() for _ in range(2) for side in sides]
    assert figures[0] == {"tokens_per_s": pytest.approx(500), "alone_p50_ms": 20, "alone_p95_ms": 20}
    texts = [turns[-1]["content"] for batch in bare.asked for turns in batch.conversations]
    assert texts == [request.messages[-1].content for request in topic.sent.values()]
    assert len(set(texts)) == 2 * (LOAD.together + LOAD.alone)


def test_the_steps_of_a_start_are_read_from_the_log(process: Process) -> None:
    def stamp(after_s: float) -> str:
        return datetime.fromtimestamp(process.began + after_s).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]

    process.log.write_text(
        f"{stamp(1.5)} INFO forebay_workers: loading model\n"
        "INFO [core.py] loading weights\n"
        f"{stamp(70)} INFO forebay_workers: loaded model in 68.5 s\n"
        f"{stamp(71.2)} INFO forebay_workers: ready: serving only\n"
    )
    facts = worker.start_up(process, Seen(make_reply(), time.monotonic() + process.began + 72 - time.time()))
    assert facts == {
        "worker, loading the model": "1.5 s",
        "worker, model loaded": "70.0 s",
        "worker, serving": "71.2 s",
        "worker, first reply": "72.0 s",
    }


def test_cached_share_is_of_all_prompt_tokens_and_tasks_of_one_prefix_share_a_key(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "paced", lambda rate_per_s, sends: [send() or time.monotonic() for send in sends])
    topic = Topic()
    monkeypatch.setattr(prefix, "Tasks", lambda config: topic)
    load = prefix.Prefixes(None, topic, [], words=50)  # pyright: ignore[reportArgumentType]
    assert load.measure(affinity=True)["cached_share"] == 0.75
    systems = [request.static_messages[0].content for request in topic.sent.values()]
    assert len(set(zip(systems, topic.keys, strict=True))) == len(set(systems)) == len(set(topic.keys))
    load.measure(affinity=False)
    assert len(set(topic.keys)) > len(topic.keys) / 2


def test_a_backlog_is_kept_full_and_waited_for(process: Process) -> None:
    topic = Topic()
    with Backlog(topic, topic, process) as backlog:  # pyright: ignore[reportArgumentType]
        assert backlog.wait_until_steady() > 0
    assert backlog.tokens == 10 * len(topic.sent)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ('{"customer": "a", "city": "b", "product": "c", "problem": "d"}', 1.0),
        ('{"customer": "a"}', 0.0),
        ('["customer", "city", "product", "problem"]', 0.0),
        ("Sure! Here it is: {", 0.0),
    ],
)
def test_valid_extracts_are_objects_with_all_fields(text: str, share: float) -> None:
    assert output.valid({"r": Seen(make_reply(text=text), 0.0)}) == share


def test_answers_that_met_the_limit_count_as_cut_off() -> None:
    replies = {reason: Seen(make_reply(finish_reason=reason), 0.0) for reason in ("stop", "length")}
    assert output.cut_off(replies) == 0.5


def test_prompts_are_the_same_for_the_same_seed_and_differ_in_length() -> None:
    texts = prompts.questions(200, seed=1)
    assert texts == prompts.questions(200, seed=1)
    assert texts != prompts.questions(200, seed=2)
    lengths = sorted(len(text.split()) for text in texts)
    assert lengths[-1] > 4 * lengths[0]
    assert prompts.handbook(100, seed=1).split(".")[0] != prompts.handbook(100, seed=2).split(".")[0]


def test_sends_are_due_at_a_steady_rate_however_late_they_are() -> None:
    held_up = threading.Event()
    due = traffic.paced(1000, [lambda: held_up.wait(0.02), *[lambda: None] * 9])
    assert [at - due[0] for at in due] == pytest.approx([number / 1000 for number in range(10)])
