"""One Kafka transaction for what was generated and the progress it stands for."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from forebay_schemas.sections import KafkaConfig

from .offsets import Commit, Partition
from .outcome import OutgoingRecord

TRANSACTION_TIMEOUT_MS = 10_000
"""A transaction left open by a killed worker hides what lies behind it from readers for at most this long."""

STUCK_S = 30.0
"""When librdkafka waits for ever for an answer, the brokers have aborted the transaction by then, and a new producer
goes on."""

_REMEMBER_COORDINATOR_MS = 2_000
"""For how long an idle producer knows who coordinates a group. It waits for a broker that it knows but that has gone
(librdkafka issue 5511): with the default of 15 minutes, always where all brokers were down at once."""

_log = logging.getLogger(__name__)


_MISSING_TOPIC_MS = 2_000
"""A topic that is not there is waited for this long. It must be well below the transaction's timeout: a producer whose
transaction was aborted by the brokers is of no use any more."""

_REFUSALS = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.POLICY_VIOLATION,
}
"""What is wrong with a record itself, or with its topic, and not with the transaction or the brokers."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one topic of tasks brings into a transaction."""

    topic: str
    records: Sequence[OutgoingRecord]
    group: Any
    """The metadata of the consumer that read the tasks."""
    commits: Mapping[Partition, Commit]
    """Where its group continues, and what it knows of what comes after."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of shares.

    Attributes:
        topics: those of the shares that are committed.
        refused: the records for whose sake others were not, each with the brokers' reason.
    """

    topics: Collection[str] = ()
    refused: Sequence[tuple[OutgoingRecord, str]] = ()


class Transactions:
    """The transactional producer of this process. Its calls block, so they run in one thread of their own."""

    def __init__(self, config: KafkaConfig) -> None:
        self._producer = Producer(
            config.client(
                # Zombies are fenced by their consumer group's generation, so the id need not outlive the process.
                transactional_id=f"{config.topic_prefix}-worker-{uuid.uuid4()}",
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
                partitioner="murmur2_random",  # as every producer of replies: clients choose keys by it
                linger_ms=1,  # a transaction waits for its last record
                metadata_max_age_ms=_REMEMBER_COORDINATOR_MS,
                topic_metadata_propagation_max_ms=_MISSING_TOPIC_MS,
                retry_backoff_ms=2,  # measured: 5.7 ms a transaction, against 104 at the default of 100
                message_max_bytes=config.max_wire_bytes,
                logger=logging.getLogger("kafka.producer"),
            )
        )
        self._closed = False
        self._refused: list[tuple[OutgoingRecord, str]] = []
        self._thread = ThreadPoolExecutor(1, "transactions")

    async def open(self) -> None:
        """Register with the brokers, however long they take to come up.

        Raises:
            KafkaException: they refuse.
        """
        await self._run(lambda: self._until_done(self._producer.init_transactions))

    async def commit(self, shares: Sequence[Share]) -> Committed:
        """Publish the shares' records and their progress, all or nothing for each share.

        A share whose group is in the middle of a rebalance is left out, and all are where a record is refused; they
        may be tried again.

        Raises:
            KafkaException: this producer is of no use any more (fenced, refused, or stuck).
        """
        try:
            async with asyncio.timeout(STUCK_S):
                return await self._run(lambda: self._commit_what_can_be(list(shares)))
        except TimeoutError:
            problem = KafkaError(KafkaError._TIMED_OUT, f"a transaction is stuck for {STUCK_S:g} s", fatal=True)
            raise KafkaException(problem) from None

    def close(self) -> None:
        """Leave; an open transaction is aborted by the brokers."""
        self._closed = True
        self._thread.shutdown(wait=False)

    async def _run(self, call: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _commit_what_can_be(self, shares: list[Share]) -> Committed:
        self._refused = []
        while shares:
            try:
                self._transact(shares)
                return Committed({share.topic for share in shares})
            except _Aborted as aborted:
                refused = aborted.shares
                waiting = ", ".join(share.topic for share in refused)
                _log.warning("%s: replies wait for the next transaction (%s)", waiting, aborted.__cause__)
                shares = [share for share in shares if share not in refused]
        return Committed(refused=self._refused)

    def _transact(self, shares: Sequence[Share]) -> None:
        producer = self._producer
        refused = shares
        producer.begin_transaction()
        try:
            for share in shares:
                for record in share.records:
                    self._produce(record)
            for share in shares:
                if share.commits:
                    refused = [share]
                    positions = [
                        TopicPartition(*partition, commit.offset, commit.metadata)
                        for partition, commit in share.commits.items()
                    ]
                    producer.send_offsets_to_transaction(positions, share.group)
            refused = shares
            if self._closed:  # given up while it was stuck: its tasks may be others' by now
                producer.abort_transaction()
                return
            self._until_done(producer.commit_transaction)
        except KafkaException as error:
            if error.args[0].fatal():
                raise
            self._until_done(producer.abort_transaction)
            raise _Aborted(refused) from error

    def _produce(self, record: OutgoingRecord) -> None:
        def delivered(error: KafkaError | None, _: Any = None) -> None:
            if error is not None and error.code() in _REFUSALS:
                self._refused.append((record, error.str()))

        headers: dict[str, str | bytes | None] = dict(record.headers)
        while True:
            try:
                return self._producer.produce(
                    record.topic, record.value, record.key, headers=headers, on_delivery=delivered
                )
            except BufferError:  # what is queued goes out meanwhile
                self._producer.poll(0.1)
            except KafkaException as error:
                delivered(error.args[0])
                raise

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

    def __init__(self, shares: Sequence[Share]) -> None:
        super().__init__()
        self.shares = shares
