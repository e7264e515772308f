"""Stands in for job and workers on the batch lane: answers each request with its question, until it is ended.

A process of its own: ``python -m forebay_ops.bench.answering CONFIG``. Replies are written at least once.
"""

import sys
import time
from typing import Any

from confluent_kafka import Consumer, Producer
from forebay_schemas.codec import Codec
from forebay_schemas.config import load_config
from forebay_schemas.prices import baseline_cost, cost
from forebay_schemas.records import CacheStatus, Lane, Reply, Request, Usage
from forebay_schemas.topics import Headers

_AT_ONCE = 1_000
_POLL_S = 0.1
_TOKENS = Usage(prompt_tokens=40, completion_tokens=8)


def main() -> None:
    """Answer until killed."""
    config = load_config(sys.argv[1])
    topics, codec = config.kafka.topics, Codec()
    tier, settings = next(iter(config.tiers.items()))
    price, whole = cost(_TOKENS, config.price(tier), Lane.BATCH), baseline_cost(_TOKENS, config)
    consumer = Consumer(
        config.kafka.client(
            group_id="answering",
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_message_max_bytes=config.kafka.max_wire_bytes,
        )
    )
    producer = Producer(config.kafka.client(linger_ms=5, compression_type="lz4", partitioner="murmur2_random"))
    consumer.subscribe([topics.requests_batch])
    while True:
        for message in consumer.consume(_AT_ONCE, _POLL_S):
            if message.error() is not None:
                continue
            request = codec.decode(message.value() or b"", Request)
            reply = Reply(
                request_id=request.request_id,
                tenant=request.tenant,
                completed_ms=time.time_ns() // 1_000_000,
                cache_status=CacheStatus.MISS,
                text=request.messages[-1].content or "",
                finish_reason="stop",
                usage=_TOKENS,
                lane=request.lane,
                model_id=settings.model,
                synthetic=True,
                hops=1,
                tier=tier,
                cost=price,
                baseline_cost=whole,
            )
            headers: Any = Headers(request_id=reply.request_id, tenant=reply.tenant).to_kafka()
            while True:
                try:
                    producer.produce(topics.replies, codec.encode(reply), reply.request_id, headers=headers)
                    break
                except BufferError:
                    producer.poll(_POLL_S)
        producer.poll(0)


if __name__ == "__main__":
    main()
