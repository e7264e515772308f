"""A worker's part of a trace: how long a task waited, what was generated for it, and its commit."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from forebay_schemas.errors import ErrorCode
from forebay_schemas.topics import Headers
from forebay_workers.answer import Retry
from forebay_workers.backends import GenerationError

from ..builders import NOW_MS, make_request
from ..recorded import NOT_RECORDED, PARENT, SETTINGS, Recorded, ms, says, traceparent
from .doubles import delivery, task_for
from .running import SETTINGS as WORKER
from .running import Running
from .saying import Answering, saying, task_of

JSON = '{"type": "json_object"}'


@pytest.fixture
def run(tmp_path: Path, recorded: Recorded) -> Answering:
    return Answering(tmp_path, SETTINGS)


@pytest.fixture
async def running(tmp_path: Path, recorded: Recorded) -> AsyncIterator[Running]:
    running = Running(tmp_path, 8, WORKER + SETTINGS)
    await running.ready.wait()
    yield running
    running.task.cancel()
    with contextlib.suppress(BaseException):
        await running.task


def test_a_task_waits_from_its_record_on_and_is_generated(run: Answering, recorded: Recorded) -> None:
    run.pool.says = [saying(confidence=0.8, first_token_ms=12.0)]
    run.outcome(delivery(task_for(traceparent=PARENT, accepted_ms=NOW_MS + 5), written_ms=NOW_MS + 30))
    queue, generation = recorded.span("queue"), recorded.span("generation")
    assert ms(queue) == (NOW_MS + 30, NOW_MS + 100)
    assert ms(generation) == (NOW_MS + 100, NOW_MS + 140)
    assert generation.kind.name == "CLIENT"
    assert says(generation) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "model",
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.response.model": "model",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.012,
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 400,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "forebay.confidence": 0.8,
    }


def test_an_answer_asked_for_once_more_is_a_generation_of_its_own(run: Answering, recorded: Recorded) -> None:
    run.pool.says = [saying("no JSON"), saying("{}")]
    run.outcome(delivery(task_for(make_request(response_format=JSON), traceparent=PARENT)))
    assert [span.name for span in recorded.spans()] == ["queue", "generation", "generation"]


def test_attempts_that_fail_are_errors_within_one_span(run: Answering, recorded: Recorded) -> None:
    one = delivery(task_for(traceparent=PARENT))
    run.pool.says = [GenerationError(ErrorCode.ENGINE_FAILED, "What is my password?"), ValueError("it is"), saying()]
    assert [isinstance(run.answer(one, attempt), Retry) for attempt in (1, 2, 3)] == [True, True, False]
    spans = recorded.spans()
    assert [span.name for span in spans] == ["queue", "generation", "generation", "generation"]
    assert [says(span).get("error.type") for span in spans[1:]] == ["engine_failed", "ValueError", None]
    assert len({span.parent and span.parent.span_id for span in spans}) == 1
    assert "password" not in "".join(span.to_json() for span in spans)


def test_a_trace_that_is_not_recorded_goes_on_as_it_is(run: Answering, recorded: Recorded) -> None:
    for given in (NOT_RECORDED, "00-trace"):
        reply, _ = run.outcome(delivery(task_for(traceparent=given))).records
        assert Headers.from_kafka(dict(reply.headers)).traceparent == given
    assert recorded.spans() == []


def test_a_worker_that_does_not_trace_carries_a_trace_on(tmp_path: Path, recorded: Recorded) -> None:
    reply, _ = Answering(tmp_path).outcome(delivery(task_for(traceparent=PARENT))).records
    assert Headers.from_kafka(dict(reply.headers)).traceparent == PARENT
    assert recorded.spans() == []


def test_a_task_that_goes_on_goes_on_in_its_trace(run: Answering) -> None:
    run.pool.says = [saying(confidence=0.1)]
    one = delivery(task_for(traceparent=PARENT))
    task = task_of(run.outcome(one))
    assert one.span is not None
    assert task.traceparent == one.span.traceparent != PARENT


async def test_a_task_ends_with_its_commit(running: Running, recorded: Recorded) -> None:
    running.small.give(task_for(task_id="a", traceparent=PARENT))
    await running.asked("a")
    running.model.answer("a")
    await running.committed(1)
    await running.until(lambda: "worker task" in recorded.tree())
    assert recorded.tree() == ["worker task", "  worker queue", "  worker generation", "  worker commit"]
    task = recorded.span("task")
    assert task.kind.name == "CONSUMER"
    assert (
        says(task).items() >= {"forebay.tier": "small", "forebay.cache_status": "miss", "forebay.attempts": 1}.items()
    )
    (share,) = [share for share in running.published.committed if share.records]
    assert [Headers.from_kafka(dict(record.headers)).traceparent for record in share.records] == [traceparent(task)] * 2


async def test_a_task_that_is_taken_back_says_so(running: Running, recorded: Recorded) -> None:
    running.small.give(task_for(task_id="a", traceparent=PARENT))
    await running.asked("a")
    running.commands.cancel("a")
    await running.committed(1)
    await running.until(lambda: len(recorded.spans()) == 4)
    assert says(recorded.span("generation"))["error.type"] == "cancelled"
    assert says(recorded.span("task"))["error.type"] == "cancelled"


async def test_a_refused_commit_is_told_when_it_has_succeeded(running: Running, recorded: Recorded) -> None:
    running.small.give(task_for(task_id="a", traceparent=PARENT))
    await running.asked("a")
    running.published.refuse = {"llm.tier.small"}
    running.model.answer("a")
    begun = running.published.begun
    await running.until(lambda: running.published.begun > begun)
    assert "task" not in [span.name for span in recorded.spans()]
    running.published.refuse = set()
    await running.committed(1)
    await running.until(lambda: "worker task" in recorded.tree())
