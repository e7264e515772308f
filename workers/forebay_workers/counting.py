"""What the metrics say about an outcome, once it is committed."""

from forebay_schemas.metrics import WorkerMetrics
from forebay_schemas.records import Lane, Reply, Usage

from .lanes import Delivery
from .outcome import Outcome


def count(metrics: WorkerMetrics, delivery: Delivery, outcome: Outcome) -> None:
    """Count one committed outcome."""
    tier, lane = delivery.tier, delivery.lane
    if outcome.dead is not None:
        metrics.dead_letters.labels(outcome.dead).inc()
    for hop in outcome.hops:
        _count_generation(metrics, hop.tier, lane, hop.usage, hop.cost)
    if outcome.handed_to is not None:
        metrics.escalations.labels(tier, outcome.hops[-1].reason).inc()
    reply = outcome.reply
    if reply is None:
        return
    if not outcome.to_nobody:
        metrics.replies.count(reply, delivery.task.traceparent if delivery.task else None)
    _count_generation(metrics, tier, lane, reply.usage, reply.cost - sum(hop.cost for hop in reply.path))
    if reply.error or outcome.to_nobody:
        return
    if outcome.standby:
        metrics.standby_answers.labels(tier, reply.model_id).inc()
    metrics.reviews.labels(tier).inc(reply.review)
    metrics.cut_off.labels(tier).inc(reply.finish_reason == "length")
    if reply.confidence is not None:
        metrics.confidence.labels(tier).observe(reply.confidence)
    if not delivery.handed_over:
        _observe_times(metrics, tier, reply)


def _count_generation(metrics: WorkerMetrics, tier: str, lane: Lane, usage: Usage, cost: float) -> None:
    metrics.tokens.labels(tier, "prompt").inc(usage.prompt_tokens)
    metrics.tokens.labels(tier, "cached_prompt").inc(usage.cached_prompt_tokens)
    metrics.tokens.labels(tier, "completion").inc(usage.completion_tokens)
    metrics.cost.labels(tier, lane).inc(max(0.0, cost))  # a difference of floats may be just below zero


def _observe_times(metrics: WorkerMetrics, tier: str, reply: Reply) -> None:
    metrics.generation_seconds.labels(tier).observe(reply.latency.generation_ms / 1000)
    if reply.latency.first_token_ms is not None:
        metrics.first_token.labels(tier).observe(reply.latency.first_token_ms / 1000)
