"""What a client tells of its requests in their traces: a span from publishing to the reply, and one of the reply."""

import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from forebay_schemas.records import Reply, Request
from forebay_schemas.topics import Headers
from forebay_schemas.tracing import Attributes, reply_attributes

from .inbox import ReplyRecord
from .outbox import OnDelivery

if TYPE_CHECKING:
    from forebay_schemas.spans import Span, Tracing


def until_answered(span: "Span", request: Request, future: Future[Reply]) -> None:
    """End a request's span when its reply has come, or cannot come any more."""

    def settled(future: Future[Reply]) -> None:
        problem = None if future.cancelled() else future.exception()
        if future.cancelled() or problem is not None:
            span.end(_now_ms(), _attributes(request), "cancelled" if problem is None else type(problem).__name__)
            return
        reply = future.result()
        span.end(_now_ms(), reply_attributes(reply), reply.error.code if reply.error else None)

    future.add_done_callback(settled)


def until_delivered(span: "Span", request: Request, on_delivery: OnDelivery) -> OnDelivery:
    """End the span of a request whose reply nobody here awaits when the brokers have it."""

    def delivered(problem: str | None) -> None:
        span.end(_now_ms(), _attributes(request), None if problem is None else "not_delivered")
        on_delivery(problem)

    return delivered


def received(tracing: "Tracing", record: ReplyRecord, reply: Reply) -> None:
    """Record the way of a reply from who wrote it, whose span its header names, to here."""
    span = tracing.follow("reply", Headers.from_kafka(record.headers).traceparent, reply.completed_ms)
    if span is not None:
        span.end(_now_ms(), {"forebay.request_id": reply.request_id})


def _attributes(request: Request) -> Attributes:
    return {
        "forebay.request_id": request.request_id,
        "forebay.tenant": request.tenant,
        "forebay.endpoint": request.endpoint,
        "forebay.lane": request.lane,
    }


def _now_ms() -> float:
    return time.time() * 1000
