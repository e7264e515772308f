"""A stand-in for job and workers on the batch lane of a real broker: answers each row with its question, until killed.

Run as a process: ``python -m tests.producers.answering_batches``, with the configuration in ``FOREBAY_CONFIG``.
"""

from typing import Any

from confluent_kafka import Consumer, Producer
from forebay_schemas.config import load_config
from forebay_schemas.records import Request
from forebay_schemas.registry import codec_for
from forebay_schemas.topics import Headers

from .batch_doubles import echo


def main() -> None:
    """Answer, at least once: whoever reads the replies removes repeats."""
    config = load_config()
    topics, codec = config.kafka.topics, codec_for(config)
    consumer = Consumer(
        config.kafka.client(
            group_id="answering", auto_offset_reset="earliest", isolation_level="read_committed", client_id="answering"
        )
    )
    producer = Producer(config.kafka.client(linger_ms=5, client_id="answering"))
    consumer.subscribe([topics.requests_batch])
    while True:
        for message in consumer.consume(1_000, 0.1):
            if message.error() is None:
                request = codec.decode(message.value() or b"", Request)
                headers: Any = Headers(request_id=request.request_id, tenant=request.tenant).to_kafka()
                while True:
                    try:
                        producer.produce(
                            topics.replies, codec.encode(echo(request)), request.request_id, headers=headers
                        )
                        break
                    except BufferError:
                        producer.poll(0.1)
        producer.poll(0)


if __name__ == "__main__":
    main()
