"""What the job tells of a request in its trace: one span, from reading its record to the reply or task it led to.

The stages are told when the request leaves, because only their durations are known: the exact lookup began when the
record was read, and the batch that embeds and looks up by meaning when the desk's timer fired.
"""

from typing import TYPE_CHECKING

import msgspec
from forebay_schemas.records import Reply, Task
from forebay_schemas.tracing import reply_attributes

from .messages import Asker

if TYPE_CHECKING:
    from forebay_schemas.spans import Span, Tracing


def replied(tracing: "Tracing", asker: Asker, reply: Reply, semantic_ms: float) -> Asker:
    """The asker, whose reply carries on from the job's span where the trace is recorded.

    Args:
        semantic_ms: what of the reply's time for lookups was the one by meaning.
    """
    span = tracing.follow("job", asker.traceparent, asker.accepted_ms)
    if span is None:
        return asker
    latency = reply.latency
    began_ms = reply.completed_ms - round(latency.embedding_ms + semantic_ms)
    end_ms = _stages(span, asker, latency.lookup_ms - semantic_ms, latency.embedding_ms, semantic_ms, began_ms)
    span.end(end_ms, reply_attributes(reply), reply.error.code if reply.error else None)
    return msgspec.structs.replace(asker, traceparent=span.traceparent)


def dispatched(tracing: "Tracing", asker: Asker, task: Task, exact_ms: float, now_ms: int) -> Task:
    """The task, from which its worker's span carries on where the trace is recorded.

    Args:
        exact_ms: what of the task's time for lookups was the exact one.
        now_ms: when the desk began with the batch.
    """
    span = tracing.follow("job", asker.traceparent, asker.accepted_ms)
    if span is None:
        return task
    end_ms = _stages(span, asker, exact_ms, task.embedding_ms, task.lookup_ms - exact_ms, now_ms)
    route = task.route
    traceparent = span.child(
        "dispatch",
        end_ms,
        end_ms,
        {
            "forebay.tier": route.tier,
            "forebay.complexity": route.complexity,
            "forebay.confidence": route.confidence,
            "forebay.reason": route.reason,
        },
        kind="producer",
    )
    span.end(
        end_ms,
        {
            "forebay.request_id": asker.request_id,
            "forebay.tenant": asker.tenant,
            "forebay.endpoint": asker.endpoint,
            "forebay.category": asker.category,
            "forebay.lane": asker.lane,
            "forebay.cache_status": task.cache_status,
            "forebay.similarity": task.similarity,
            "forebay.tier": route.tier,
        },
    )
    return msgspec.structs.replace(task, traceparent=traceparent)


def _stages(
    span: "Span", asker: Asker, exact_ms: float, embedding_ms: float, semantic_ms: float, began_ms: float
) -> float:
    """Tell what happened one after the other, leaving out what did not; when the last of it ended.

    Args:
        began_ms: when the desk began with the batch.
    """
    looked_ms = asker.accepted_ms + exact_ms
    if exact_ms > 0:
        span.child("exact lookup", asker.accepted_ms, looked_ms)
    if began_ms - looked_ms >= 1:  # the job's clock tells whole milliseconds
        span.child("desk wait", looked_ms, began_ms)
    else:
        began_ms = looked_ms
    embedded_ms = began_ms + embedding_ms
    if embedding_ms > 0:
        span.child("embedding", embedded_ms - embedding_ms, embedded_ms)
    if semantic_ms > 0:
        span.child("semantic lookup", embedded_ms, embedded_ms + semantic_ms)
    return embedded_ms + semantic_ms
