"""Replies that the job writes itself: answers given again, and errors."""

from typing import Any

from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.prices import baseline_cost
from forebay_schemas.records import CacheStatus, Chunk, Latency, Reply, ReplyError
from forebay_schemas.tracing import tracing_for

from . import traces
from .caches.answers import Answer
from .messages import Asker, Outgoing


class ReplyWriter:
    """Builds, encodes and counts the job's own replies."""

    def __init__(self, config: Config, codec: Codec, metrics: JobMetrics) -> None:
        self._config = config
        self._codec = codec
        self._metrics = metrics
        self._tracing = tracing_for(config, "job")
        self.topics = frozenset((config.kafka.topics.replies, *config.kafka.reply_topics))
        """Where a request may let its reply go."""
        for name, category in config.categories.items():
            if category.fresh_s is not None:  # both from the beginning: a share of what is not there is nothing
                for age in ("within", "past"):
                    metrics.freshness.labels(name, age)

    def again(
        self,
        asker: Asker,
        answer: Answer,
        status: CacheStatus,
        now_ms: int,
        *,
        similarity: float | None = None,
        embedding_ms: float = 0.0,
        lookup_ms: float = 0.0,
        semantic_ms: float = 0.0,
    ) -> list[Outgoing]:
        """An answer that was generated for another request: it costs nothing now.

        Whoever wants it piece by piece gets it as one piece first.

        Args:
            now_ms: the time, with the lookups behind.
            lookup_ms: time of the lookups in both caches.
            semantic_ms: what of it was the one by meaning.
        """
        reply = Reply(
            **_attribution(asker, now_ms),
            cache_status=status,
            text=answer.text,
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            similarity=similarity,
            # What another tenant calls its requests is its own affair.
            matched_request_id=answer.request_id if answer.tenant == asker.tenant else None,
            route=answer.route,
            model_id=answer.model_id,
            synthetic=answer.synthetic,
            latency=_latency(asker, now_ms, embedding_ms, lookup_ms),
            baseline_cost=baseline_cost(answer.usage, self._config),
            tier=answer.tier,
            confidence=answer.confidence,
            review=answer.review,
            tool_calls=answer.tool_calls,
        )
        if status is not CacheStatus.JOINED:
            self._count_age(asker.category, status, (now_ms - answer.created_ms) / 1000)
        if self._tracing is not None:
            asker = traces.replied(self._tracing, asker, reply, semantic_ms)
        sent = self._send(asker, reply)
        return [self._whole(asker, answer.text), sent] if asker.stream else [sent]

    def refuse(self, asker: Asker, code: ErrorCode, message: str, now_ms: int) -> Outgoing:
        """An error for a request that cannot be answered."""
        return self.fail(asker, ReplyError(code=code, message=message, retryable=code.retryable), now_ms)

    def fail(self, asker: Asker, error: ReplyError, now_ms: int) -> Outgoing:
        """An error as it is, such as the one of the generation that this request shared."""
        reply = Reply(
            **_attribution(asker, now_ms),
            cache_status=CacheStatus.BYPASS,
            error=error,
            latency=_latency(asker, now_ms, 0.0, 0.0),
        )
        if self._tracing is not None:
            asker = traces.replied(self._tracing, asker, reply, semantic_ms=0.0)
        return self._send(asker, reply)

    def topic_for(self, asker: Asker) -> str:
        """Where the asker's reply goes: to the default topic if its own is not, or no longer, allowed."""
        topics = self._config.kafka.topics
        allowed = asker.reply_topic in self.topics or asker.reply_topic == topics.audit  # what the job itself asks
        return asker.reply_topic if allowed else topics.replies

    def _count_age(self, category: str, status: CacheStatus, age_s: float) -> None:
        self._metrics.hit_age.labels(status).observe(age_s)
        fresh_s = self._config.category(category).fresh_s
        if fresh_s is not None:
            # A sender may name any category; those without settings of their own share one series.
            name = category if category in self._config.categories else "default"
            self._metrics.freshness.labels(name, "within" if age_s < fresh_s else "past").inc()

    def _whole(self, asker: Asker, text: str) -> Outgoing:
        chunk = Chunk(request_id=asker.request_id, tenant=asker.tenant, attempt=0, index=0, text=text, last=True)
        return Outgoing(
            topic=self._config.kafka.topics.replies_stream,
            key=asker.reply_key.encode(),
            value=self._codec.encode(chunk),
            headers=asker.headers(),
        )

    def _send(self, asker: Asker, reply: Reply) -> Outgoing:
        if asker.reply_topic != self._config.kafka.topics.audit:  # what the job asks itself is no service's request
            self._metrics.replies.count(reply, asker.traceparent)
        if reply.cache_status is CacheStatus.SEMANTIC and reply.similarity is not None:
            self._metrics.similarity.observe(reply.similarity)
        return Outgoing(
            topic=self.topic_for(asker),
            key=asker.reply_key.encode(),
            value=self._codec.encode(reply),
            headers=asker.headers(),
        )


def _attribution(asker: Asker, now_ms: int) -> dict[str, Any]:
    return {
        "request_id": asker.request_id,
        "tenant": asker.tenant,
        "completed_ms": now_ms,
        "user": asker.user,
        "endpoint": asker.endpoint,
        "category": asker.category,
        "lane": asker.lane,
        "prompt_version": asker.prompt_version,
        "arm": asker.arm,
    }


def _latency(asker: Asker, now_ms: int, embedding_ms: float, lookup_ms: float) -> Latency:
    total_ms = max(0.0, float(now_ms - asker.created_ms))
    return Latency(
        queue_ms=max(0.0, total_ms - embedding_ms - lookup_ms),
        embedding_ms=embedding_ms,
        lookup_ms=lookup_ms,
        total_ms=total_ms,
    )
