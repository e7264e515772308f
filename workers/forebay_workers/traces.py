"""What a worker tells of a task in its trace: one span, from its record being written to the commit of its outcome."""

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import Task
from forebay_schemas.tracing import Attributes, reply_attributes

from .backends import Generation, GenerationError, GenerationRequest
from .lanes import Delivery
from .outcome import Outcome

if TYPE_CHECKING:
    from forebay_schemas.spans import Span, Tracing


def opened(tracing: "Tracing", delivery: Delivery, task: Task, now_ms: float) -> Task:
    """The task, whose replies and next hop carry on from the delivery's span where the trace is recorded.

    The span is opened once, when the task's turn has come, and told how long it waited for that.
    """
    if delivery.span is None:
        written_ms = max(delivery.written_ms, task.accepted_ms)
        delivery.span = tracing.follow("task", task.traceparent, written_ms)
        if delivery.span is None:
            return task
        delivery.span.child("queue", written_ms, now_ms)
    return msgspec.structs.replace(task, traceparent=delivery.span.traceparent)


def generated(
    span: "Span",
    asked: GenerationRequest,
    model: str,
    began_ms: float,
    ended_ms: float,
    end: Generation | BaseException,
) -> None:
    """Record one generation, whether its answer goes out or not.

    Args:
        model: the tier's own; a standby that answered in its place says so itself.
        end: what came of it.
    """
    attributes: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": asked.max_tokens,
        "gen_ai.request.temperature": asked.temperature,
    }
    if isinstance(end, Generation):
        attributes = {**attributes, **_answer_attributes(end)}
    error = _code(end) if isinstance(end, BaseException) else None
    span.child("generation", began_ms, ended_ms, attributes, kind="client", error=error)


def committed(span: "Span", delivery: Delivery, outcome: Outcome, began_ms: float) -> None:
    """Record the commit of a delivery's outcome, and end the span.

    Args:
        began_ms: when its transaction did.
    """
    now_ms = time.time() * 1000
    span.child("commit", began_ms, now_ms)
    reply = outcome.reply
    attributes: Attributes = {
        "forebay.tier": delivery.tier,
        "forebay.lane": delivery.lane,
        "forebay.attempts": delivery.attempts,
        "forebay.handed_to": outcome.handed_to,
        "forebay.reason": outcome.hops[-1].reason if outcome.handed_to else None,
    }
    if reply is not None:
        attributes = {**attributes, **reply_attributes(reply)}
    span.end(now_ms, attributes, reply.error.code if reply and reply.error else outcome.dead)


def _answer_attributes(generation: Generation) -> Attributes:
    usage, first_ms = generation.usage, generation.first_token_ms
    return {
        "gen_ai.response.model": generation.model_id,
        "gen_ai.response.finish_reasons": [generation.finish_reason],
        "gen_ai.response.time_to_first_chunk": None if first_ms is None else first_ms / 1000,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_prompt_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_prompt_tokens,
        "forebay.confidence": generation.confidence,
    }


def _code(error: BaseException) -> str:
    """No message: it may quote a prompt."""
    if isinstance(error, GenerationError):
        return error.code
    return ErrorCode.CANCELLED if isinstance(error, asyncio.CancelledError) else type(error).__name__
