"""What the metrics say about an outcome, once it is committed."""

from forebay_schemas.metrics import WorkerMetrics

from .lanes import Delivery
from .outcome import Outcome


def count(metrics: WorkerMetrics, delivery: Delivery, outcome: Outcome) -> None:
    """Count one committed outcome; a reply's ``outcome`` label is ``ok`` or its error code."""
    if outcome.dead is not None:
        metrics.dead_letters.labels(outcome.dead).inc()
    reply = outcome.reply
    if reply is None:
        return
    tier, lane = delivery.tier, delivery.lane
    metrics.replies.labels(tier, lane, reply.error.code if reply.error else "ok").inc()
    if reply.error:
        return
    metrics.tokens.labels(tier, "prompt").inc(reply.usage.prompt_tokens)
    metrics.tokens.labels(tier, "cached_prompt").inc(reply.usage.cached_prompt_tokens)
    metrics.tokens.labels(tier, "completion").inc(reply.usage.completion_tokens)
    metrics.cost.labels(tier, lane).inc(reply.cost)
    metrics.reply_latency.labels(tier).observe(reply.latency.total_ms / 1000)
    metrics.generation_seconds.labels(tier).observe(reply.latency.generation_ms / 1000)
