"""The way out: one producer for everything that a client publishes."""

import time
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError

from .errors import BrokerUnavailable, explain
from .kafka_log import kafka_log

OnDelivery = Callable[[str | None], None]
"""Is told the outcome of one publication: None where the brokers have it, else what went wrong."""

DELIVERY_TIMEOUT_S = 30.0
"""After this a record is given up. Long enough for a broker's restart or the election of a new leader."""
_ROOM_POLL_S = 0.1
_FLUSH_STEP_S = 0.2  # Ctrl-C is noticed between two steps


class Outbox:
    """An idempotent producer whose records all replicas in sync acknowledge. Safe to share between threads."""

    def __init__(self, config: Config) -> None:
        self._bootstrap = config.kafka.bootstrap
        settings = config.kafka.client(
            client_id="forebay-client",
            enable_idempotence=True,
            acks="all",
            # Waiting 1 ms for more makes an ask take 2.1 instead of 1.0 ms, and publishing 17,000/s instead of 8,000/s
            # (two shared cores, a broker beside): one client sends less than that, and somebody waits for an ask.
            linger_ms=0,
            compression_type="lz4",  # as the job does: prompts are text, and it costs next to nothing
            partitioner="murmur2_random",
            message_max_bytes=config.kafka.max_wire_bytes,
            delivery_timeout_ms=round(DELIVERY_TIMEOUT_S * 1000),
        )
        try:
            self._producer = Producer(settings, logger=kafka_log)
        except KafkaException as error:
            raise ConfigError(f"kafka: the client settings cannot work ({error.args[0].str()}); mend them") from None

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        headers: Mapping[str, bytes],
        on_delivery: OnDelivery,
        wait_s: float = DELIVERY_TIMEOUT_S,
    ) -> None:
        """Queue a record; without a value it takes back what its key says, on a topic that is compacted. Waits so
        long while the queue is full.

        Raises:
            BrokerUnavailable: the queue stayed full.
        """

        def report(error: KafkaError | None, _: Message) -> None:
            on_delivery(None if error is None else self._explain(error, topic))

        until_s = time.monotonic() + wait_s
        while True:
            try:
                self._producer.produce(topic, value, key, headers=list(headers.items()), on_delivery=report)
                return
            except BufferError:
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    raise BrokerUnavailable(
                        f"the brokers at {self._bootstrap} take nothing, and the queue is full; check that they run"
                    ) from None
                self._producer.poll(min(_ROOM_POLL_S, left_s))
            except KafkaException as error:
                raise BrokerUnavailable(self._explain(error.args[0], topic)) from None

    def serve(self) -> None:
        """Run the callbacks of what was delivered, or given up, since the last call."""
        self._producer.poll(0)

    def flush(self, timeout_s: float) -> int:
        """Wait until everything is delivered or given up; returns how much is left after the timeout."""
        until_s = time.monotonic() + timeout_s
        while left := self._producer.flush(max(0.0, min(_FLUSH_STEP_S, until_s - time.monotonic()))):
            if time.monotonic() >= until_s:
                return left
        return 0

    def close(self) -> None:
        """Give up what is still queued, so that nothing is sent behind the caller's back."""
        self._producer.purge()
        self._producer.flush(_FLUSH_STEP_S)

    def _explain(self, error: KafkaError, topic: str) -> str:
        return explain(error, topic, self._bootstrap)
