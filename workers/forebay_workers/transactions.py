"""One Kafka transaction for what was generated and the progress it stands for."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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

_REMEMBER_MS = 2_000
"""For how long an idle producer knows who coordinates a group. It waits for a broker that it knows but that has gone
(librdkafka issue 5511): with the default of 15 minutes, always where all brokers were down at once. Topics are asked
for anew after the same time, which takes milliseconds."""
_REFRESH_MS = 300_000
"""So that all topics are not asked for between: more often than librdkafka's default made some commits wait a second
(measured)."""

_MISSING_TOPIC_MS = 2_000
"""A topic that is not there is waited for this long. It must be well below the transaction's timeout: a producer whose
transaction was aborted by the brokers is of no use any more."""

_REFUSALS = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_EXCEPTION,
}
"""What is wrong with a topic, and not with the transaction or the brokers."""
_REJECTIONS = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.POLICY_VIOLATION,
}
"""What is wrong with one record: its topic takes others."""

_log = logging.getLogger(__name__)


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
        refused: topics to which no record can be written, with the brokers' reason.
        rejected: records that their topics do not take, with the brokers' reason.

    For the sake of both, shares were left out.
    """

    topics: Collection[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    rejected: Sequence[tuple[OutgoingRecord, str]] = ()


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
                metadata_max_age_ms=_REMEMBER_MS,
                topic_metadata_refresh_interval_ms=_REFRESH_MS,
                topic_metadata_propagation_max_ms=_MISSING_TOPIC_MS,
                retry_backoff_ms=2,  # measured: 5.7 ms a transaction, against 104 at the default of 100
                message_max_bytes=config.max_wire_bytes,
                logger=logging.getLogger("kafka.producer"),
            )
        )
        self._closed = False
        self._refused: dict[str, str] = {}
        self._rejected: list[tuple[OutgoingRecord, str]] = []
        self._thread = ThreadPoolExecutor(1, "transactions")

    async def open(self) -> None:
        """Register with the brokers, however long they take to come up.

        Raises:
            KafkaException: they refuse.
        """
        await self._run(lambda: self._until_done(self._producer.init_transactions))

    async def commit(self, shares: Sequence[Share]) -> Committed:
        """Publish the shares' records and their progress, all or nothing for each share.

        A share whose group is in the middle of a rebalance is left out, and all may be where a topic is refused; they
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
        self._refused, self._rejected = {}, []
        while shares:
            try:
                self._transact(shares)
                break
            except _Aborted as aborted:
                left_out = aborted.shares
                waiting = ", ".join(share.topic for share in left_out)
                _log.warning("%s: replies wait for the next transaction (%s)", waiting, aborted.__cause__)
                shares = [share for share in shares if share not in left_out]
        return Committed({share.topic for share in shares}, self._refused, self._rejected)

    def _transact(self, shares: Sequence[Share]) -> None:
        producer = self._producer
        left_out = shares
        producer.begin_transaction()
        try:
            refusals = [self._produce(record) for share in shares for record in share.records]
            if refusal := next(filter(None, refusals), None):
                raise refusal
            for share in shares:
                if share.commits:
                    left_out = [share]
                    positions = [
                        TopicPartition(*partition, commit.offset, commit.metadata)
                        for partition, commit in share.commits.items()
                    ]
                    producer.send_offsets_to_transaction(positions, share.group)
            left_out = shares
            if self._closed:  # given up while it was stuck: its tasks may be others' by now
                producer.abort_transaction()
                return
            self._until_done(producer.commit_transaction)
        except KafkaException as error:
            if error.args[0].fatal():
                raise
            self._until_done(producer.abort_transaction)
            raise _Aborted(left_out) from error

    def _produce(self, record: OutgoingRecord) -> KafkaException | None:
        """Queue a record; the error where it is known already that it will not be taken, which is also noted."""

        def delivered(error: KafkaError | None, _: Any = None) -> None:
            if error is not None and error.code() in _REFUSALS:
                self._refused[record.topic] = error.str()
            elif error is not None and error.code() in _REJECTIONS:
                self._rejected.append((record, error.str()))

        headers: dict[str, str | bytes | None] = dict(record.headers)
        while True:
            try:
                self._producer.produce(record.topic, record.value, record.key, headers=headers, on_delivery=delivered)
                return None
            except BufferError:  # what is queued goes out meanwhile
                self._producer.poll(0.1)
            except KafkaException as error:
                if error.args[0].code() not in _REFUSALS | _REJECTIONS:
                    raise
                delivered(error.args[0])
                return error

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
