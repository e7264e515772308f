"""The one process that publishes a batch or takes it back."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import BatchState, Control

from ..errors import BrokerUnavailable, explain
from ..kafka_log import kafka_log
from ..preparing import Prepared
from .errors import BatchTakenOver

TRANSACTION_TIMEOUT_MS = 10_000
"""What a killed process left open hides what others put on the batch lane behind it for at most this long."""
_RPC_TIMEOUT_S = 10.0
_PATIENCE_S = 60.0
"""How long brokers may be slow, or away, before it is given up: a broker's restart, or an election."""
_ATTEMPTS = 3
"""Of a transaction that brokers or a pause of this process aborted."""
_FENCED = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
_POLL_S = 0.2


class Owner:
    """The one process that publishes a batch or takes it back, by the transactional id that only it holds.

    Whoever comes next takes the batch over: what the one before had not committed is gone by then, and it cannot
    commit any more. So the newest state says exactly what is published.

    Raises:
        BrokerUnavailable: the brokers do not answer, or refuse.
    """

    def __init__(self, config: Config, codec: Codec, batch_id: str) -> None:
        self._config = config.kafka
        self._codec = codec
        self._batch_id = batch_id
        self._problem: KafkaException | None = None
        self._producer = Producer(
            config.kafka.client(
                client_id="forebay-batch",
                transactional_id=f"{config.kafka.topic_prefix}-{batch_id}",
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
                linger_ms=5,
                retry_backoff_ms=2,  # as the workers: a transaction waits for many small answers
                compression_type="lz4",
                partitioner="murmur2_random",
                message_max_bytes=config.kafka.max_wire_bytes,
            ),
            logger=kafka_log,
        )
        self._until_done(self._producer.init_transactions)

    def commit(self, state: BatchState, requests: Sequence[Prepared] = (), commands: Sequence[Control] = ()) -> None:
        """Publish requests and commands together with the state that counts them, all or nothing.

        Raises:
            BatchTakenOver: another process did.
            BrokerUnavailable: nothing is known to be published; the state in Kafka tells.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._transact(state, requests, commands)
                return
            except KafkaException as error:
                if attempt == _ATTEMPTS or not error.args[0].txn_requires_abort():
                    raise self._explained(error) from None
            except BaseException:
                with suppress(KafkaException):  # others on the lane need not wait until it times out
                    self._producer.abort_transaction(_POLL_S)
                raise

    def close(self) -> None:
        """Let go of the connections."""
        with suppress(KafkaException):  # one that was taken over says so again
            self._producer.purge()
            self._producer.flush(0)

    def _transact(self, state: BatchState, requests: Sequence[Prepared], commands: Sequence[Control]) -> None:
        topics = self._config.topics
        self._problem = None
        self._producer.begin_transaction()
        try:
            for each in requests:
                headers: Any = list(each.headers.to_kafka().items())
                self._produce(each.topic, each.headers.request_id or "", each.value, headers)
            for command in commands:
                self._produce(topics.control, command.key, self._codec.encode(command))
            self._produce(topics.batches, state.batch_id, self._codec.encode(state))
            self._until_done(self._producer.commit_transaction)
        except KafkaException as error:
            if not error.args[0].fatal():
                self._until_done(self._producer.abort_transaction)
            raise self._problem or error from None

    def _produce(self, topic: str, key: str, value: bytes, headers: Any = None) -> None:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None and self._problem is None and error.code() != KafkaError._PURGE_QUEUE:
                self._problem = _Refused(error, topic)

        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=delivered)
                return
            except BufferError:
                self._producer.poll(_POLL_S)

    def _until_done(self, call: Callable[[float], None]) -> None:
        """Repeat a call whose outcome is not known yet: in that state librdkafka allows no other."""
        until_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return call(_RPC_TIMEOUT_S)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > until_s:
                    raise self._explained(error) if call == self._producer.init_transactions else error from None

    def _explained(self, error: KafkaException) -> ForebayError:
        if error.args[0].code() in _FENCED:
            return BatchTakenOver(self._batch_id)
        topic = error.topic if isinstance(error, _Refused) else self._config.topics.batches
        return BrokerUnavailable(explain(error.args[0], topic, self._config.bootstrap))


class _Refused(KafkaException):
    """The brokers did not take a record."""

    def __init__(self, error: KafkaError, topic: str) -> None:
        super().__init__(error)
        self.topic = topic
