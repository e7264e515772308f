"""One Kafka transaction for what was generated and the progress it stands for."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import KafkaException, Producer, TopicPartition
from forebay_schemas.config import KafkaConfig

from .kafka_log import kafka_log
from .offsets import Partition
from .outcome import OutgoingRecord

TRANSACTION_TIMEOUT_MS = 10_000
"""A transaction left open by a killed worker hides what lies behind it from readers for at most this long."""

SEND_OFFSETS_TIMEOUT_S = 15.0
"""Above the transaction's own timeout. librdkafka knows a timeout here but does not keep to it, and waits for ever
where a group's coordinator went away and came back (its issues 5456 and 5511)."""

_log = logging.getLogger(__name__)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Share:
    """What one topic of tasks brings into a transaction."""

    topic: str
    records: Sequence[OutgoingRecord]
    group: Any
    """The metadata of the consumer that read the tasks."""
    offsets: Mapping[Partition, int]
    """Where its group continues."""


class Transactions:
    """The transactional producer of this process. Its calls block, so they run in one thread of their own."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._thread = ThreadPoolExecutor(1, "transactions")
        self._closed = False

    async def open(self) -> None:
        """Register with the brokers, however long they take to come up.

        Raises:
            KafkaException: they refuse.
        """
        await self._run(self._renew)

    async def commit(self, shares: Sequence[Share]) -> set[str]:
        """Publish the shares' records and their progress, all or nothing for each share.

        A share whose group is in the middle of a rebalance is left out; it may be tried again.

        Returns:
            The topics of the shares that are committed.

        Raises:
            KafkaException: whether they are committed cannot be known: only what the log says is true.
        """
        return await self._run(lambda: self._commit_what_can_be(list(shares)))

    def close(self) -> None:
        """Leave; an open transaction is aborted by the brokers."""
        self._closed = True
        self._thread.shutdown(wait=False)

    async def _run(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _renew(self) -> None:
        self._offsets_thread = ThreadPoolExecutor(1, "offsets")  # the last one may hang
        self._producer = Producer(
            self._config.client(
                # Zombies are fenced by their consumer group's generation, so an id need not outlive its producer.
                transactional_id=f"{self._config.topic_prefix}-worker-{uuid.uuid4()}",
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
                partitioner="murmur2_random",  # as every producer of replies: clients choose keys by it
                linger_ms=1,  # a transaction waits for its last record
                retry_backoff_ms=2,  # measured: 5.7 ms a transaction, against 104 at the default of 100
                message_max_bytes=self._config.max_wire_bytes,
                logger=kafka_log,
            )
        )
        self._until_done(self._producer.init_transactions)

    def _commit_what_can_be(self, shares: list[Share]) -> set[str]:
        while shares:
            try:
                self._transact(shares)
                return {share.topic for share in shares}
            except _Aborted as aborted:
                refused = aborted.shares
                waiting = ", ".join(share.topic for share in refused)
                _log.warning("%s: replies wait for the next transaction (%s)", waiting, aborted.reason)
                shares = [share for share in shares if share not in refused]
        return set()

    def _transact(self, shares: Sequence[Share]) -> None:
        refused = shares
        try:
            self._producer.begin_transaction()
            for share in shares:
                for record in share.records:
                    self._producer.produce(record.topic, record.value, record.key, headers=dict(record.headers))
            for share in shares:
                if share.offsets:
                    refused = [share]
                    self._send_offsets(share)
        except KafkaException as error:
            self._abort()
            raise _Aborted(refused, str(error.args[0])) from error
        except TimeoutError as error:
            self._renew()
            raise _Aborted(refused, "the group's coordinator does not answer, a new producer takes over") from error
        try:
            self._until_done(self._producer.commit_transaction)
        except KafkaException as error:
            if error.args[0].fatal():
                raise
            self._abort()
            raise _Aborted(shares, str(error.args[0])) from error

    def _send_offsets(self, share: Share) -> None:
        """Add a share's progress to the transaction.

        Raises:
            TimeoutError: the call hangs, and the producer with it. Nobody else will tell that producer to commit.
        """
        positions = [TopicPartition(*partition, offset) for partition, offset in share.offsets.items()]
        call = self._offsets_thread.submit(self._producer.send_offsets_to_transaction, positions, share.group)
        call.result(SEND_OFFSETS_TIMEOUT_S)

    def _abort(self) -> None:
        """Give up a transaction that was not told to commit: whatever becomes of it, nothing of it will be seen."""
        try:
            self._until_done(self._producer.abort_transaction)
        except KafkaException as error:
            _log.warning("the producer cannot go on, a new one takes its place (%s)", error.args[0])
            self._renew()

    def _until_done(self, call: Callable[[], None]) -> None:
        """Repeat a call whose outcome is not known yet: in that state librdkafka allows no other."""
        while True:
            try:
                return call()
            except KafkaException as error:
                if self._closed or not error.args[0].retriable():
                    raise
                _log.warning("the brokers are slow to answer, asking again: %s", error.args[0])


class _Aborted(Exception):
    """A transaction was aborted for the sake of these shares; nothing of it will be seen."""

    def __init__(self, shares: Sequence[Share], reason: str) -> None:
        super().__init__(reason)
        self.shares = shares
        self.reason = reason
