"""One request, one trace: through client, job and worker, whose topics are the test's hands here."""

import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from forebay_client import Client, Reply, core
from forebay_client.inbox import ReplyRecord
from forebay_jobs.caches.answers import Answer
from forebay_jobs.intake import Intake
from forebay_jobs.messages import Arrival, Incoming, Outgoing
from forebay_schemas.canonical import digests
from forebay_schemas.records import Lane
from forebay_workers.outcome import OutgoingRecord

from .builders import make_reply
from .jobs.doubles import CODEC, DeskRig, only_task
from .producers.doubles import MemoryKafka, silence
from .recorded import SETTINGS, Recorded, id_of, says
from .workers.running import SETTINGS as WORKER
from .workers.running import Running

QUESTION, ANSWER = "How long does a delivery take?", "Two days."
SERVED = WORKER.replace("[models.model]", '[models.model]\nbackend = "synthetic"')
ROUTE = """
[categories.default]
tier = "small"
"""


class Pipeline:
    """Client, job and worker of one configuration."""

    def __init__(self, folder: Path, kafka: MemoryKafka) -> None:
        self.worker = Running(folder, 8, SERVED + SETTINGS + ROUTE)
        config = self.worker.config
        self.desk = DeskRig(config)
        self.intake = Intake(config, CODEC, self.desk.answers, self.desk.metrics)
        self.kafka = kafka
        kafka.answer = silence
        self.client = Client("acme", config=config)
        self.replies: list[Reply] = []

    def ask(self, *, known: str | None = None, **fields: Any) -> Arrival | Outgoing:
        """A request is published and read by the job; what comes of it. An equal one may have had an answer."""
        self.client.publish(QUESTION, on_reply=self.replies.append, **fields)
        self.desk.now_ms = round(time.time() * 1000)
        sent = self.kafka.sent[-1]
        if known:
            model = self.desk.config.tiers["small"].model
            reply = make_reply(text=known, completed_ms=self.desk.now_ms, model_id=model)
            answer = Answer.of(reply, self.desk.answers.current(sent.request), None)
            self.desk.answers.keep(digests(sent.request).exact, answer, 60)
        headers: dict[str, bytes | None] = {**sent.headers.to_kafka()}
        record = Incoming(topic=sent.topic, partition=0, offset=len(self.kafka.sent), value=sent.value, headers=headers)
        (item,) = self.intake.take(record, Lane.INTERACTIVE, self.desk.now_ms)
        return item

    def dispatch(self, arrival: Arrival | Outgoing) -> Outgoing:
        """The desk finds nothing and hands the request to a tier."""
        assert isinstance(arrival, Arrival)
        self.desk.desk.arrive(self.desk.state, arrival, self.desk.now_ms + 1)
        (sent,) = self.desk.tick(after_ms=7)
        return sent

    async def generate(self, sent: Outgoing | OutgoingRecord, text: str) -> OutgoingRecord:
        """The tier's worker answers; what is told first of what it commits."""
        task = only_task([Outgoing(topic=sent.topic, key=b"", value=sent.value)])
        log = self.worker.large if ".large" in sent.topic else self.worker.small
        number = len(self.worker.model.generations)
        log.give(sent.value, written_ms=round(time.time() * 1000))
        await self.worker.until(lambda: len(self.worker.model.generations) > number)
        self.worker.model.answer(task.task_id, text=text)
        done = len(self.records)
        await self.worker.until(lambda: len(self.records) > done)
        return self.records[done]

    @property
    def records(self) -> list[OutgoingRecord]:
        """What the worker has committed."""
        return [record for share in self.worker.published.committed for record in share.records]

    def receive(self, sent: Outgoing | OutgoingRecord | Arrival) -> Reply:
        """The client gets what was written."""
        assert isinstance(sent, Outgoing | OutgoingRecord)
        self.kafka.inboxes[0].records.put(ReplyRecord(list(sent.headers.items()), sent.value))
        assert self.client.wait(5) == 0
        self.client.close()
        return self.replies[-1]

    async def finished(self, recorded: Recorded, tasks: int) -> None:
        """Until the worker has told of so many tasks."""
        await self.worker.until(lambda: [span.name for span in recorded.spans()].count("task") == tasks)


@pytest.fixture
async def pipeline(tmp_path: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pipeline]:
    kafka = MemoryKafka()
    monkeypatch.setattr(core, "Outbox", kafka.outbox)
    monkeypatch.setattr(core, "Inbox", kafka.inbox)
    pipeline = Pipeline(tmp_path, kafka)
    await pipeline.worker.ready.wait()
    yield pipeline
    pipeline.client.close()
    pipeline.worker.task.cancel()
    with contextlib.suppress(BaseException):
        await pipeline.worker.task


def assert_one_trace_without_texts(recorded: Recorded) -> None:
    spans = recorded.spans()
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    told = "".join(span.to_json() for span in spans)
    assert QUESTION not in told
    assert ANSWER not in told


MISS = """
client request
  job job
    job exact lookup
    job desk wait
    job embedding
    job semantic lookup
    job dispatch
      worker task
        worker queue
        worker generation
        worker commit
"""


async def test_a_miss(pipeline: Pipeline, recorded: Recorded) -> None:
    sent = await pipeline.generate(pipeline.dispatch(pipeline.ask()), ANSWER)
    assert pipeline.receive(sent).text == ANSWER
    await pipeline.finished(recorded, 1)
    assert recorded.tree() == [*MISS.strip().split("\n"), "        client reply"]
    assert says(recorded.span("request"))["forebay.cache_status"] == "miss"
    assert says(recorded.span("generation"))["gen_ai.usage.output_tokens"] == 2
    assert_one_trace_without_texts(recorded)


async def test_an_escalation(pipeline: Pipeline, recorded: Recorded) -> None:
    handed_on = await pipeline.generate(pipeline.dispatch(pipeline.ask()), "I'm sorry, but I can't help with that.")
    assert handed_on.topic == "llm.tier.large"
    reply = pipeline.receive(await pipeline.generate(handed_on, ANSWER))
    assert (reply.text, reply.tier) == (ANSWER, "large")
    await pipeline.finished(recorded, 2)
    assert recorded.tree() == [
        *MISS.strip().split("\n"),
        "        worker task",
        "          worker queue",
        "          worker generation",
        "          worker commit",
        "          client reply",
    ]
    first, second = (span for span in recorded.spans() if span.name == "task")
    assert says(first).items() >= {"forebay.handed_to": "large", "forebay.reason": "refusal"}.items()
    assert (says(second)["forebay.tier"], says(second)["forebay.hops"]) == ("large", 2)
    assert second.parent is not None
    assert second.parent.span_id == id_of(first)
    assert_one_trace_without_texts(recorded)


async def test_an_exact_hit(pipeline: Pipeline, recorded: Recorded) -> None:
    reply = pipeline.receive(pipeline.ask(known=ANSWER))
    assert (reply.cache_status, reply.text) == ("exact", ANSWER)
    assert recorded.tree() == ["client request", "  job job", "    job exact lookup", "    client reply"]
    assert says(recorded.span("request"))["forebay.cache_status"] == "exact"
    assert_one_trace_without_texts(recorded)


async def test_an_error(pipeline: Pipeline, recorded: Recorded) -> None:
    reply = pipeline.receive(pipeline.ask(deadline_ms=round(time.time() * 1000) - 1))
    assert reply.error is not None
    assert recorded.tree() == ["client request", "  job job", "    client reply"]
    for name in ("request", "job"):
        assert (recorded.span(name).status.is_ok, says(recorded.span(name))["error.type"]) == (False, reply.error.code)
    assert_one_trace_without_texts(recorded)


OFF = """
import sys
from forebay_client import Client
import forebay_jobs.traces, forebay_workers.traces
Client("acme").close()
print([name for name in sys.modules if name.startswith("opentelemetry.sdk") or name == "forebay_schemas.spans"])
"""


def test_nothing_is_loaded_where_nothing_is_traced() -> None:
    run = subprocess.run([sys.executable, "-c", OFF], check=True, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "[]"
