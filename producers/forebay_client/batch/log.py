"""Batches in Kafka, as they are read: what is known of each, and the replies to its rows."""

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.records import BatchState
from forebay_schemas.topics import REQUEST_ID, TENANT

from ..errors import BrokerUnavailable, explain
from ..reading import RPC_TIMEOUT_S, answered, open_reader, partitions_of

_PATIENCE_S = 60.0
"""How long brokers may be slow, or away, before it is given up: a broker's restart, or an election."""
_AT_ONCE = 2_000
_POLL_S = 0.2
_METADATA_EVERY_S = 30.0
_COMMITTED = "read_committed"


class StateLog:
    """Follows what Kafka knows of batches; each read goes on where the one before ended.

    Raises:
        BrokerUnavailable: the brokers do not answer, or there is no such topic.
    """

    def __init__(self, config: Config, codec: Codec) -> None:
        self._codec = codec
        self._topic = config.kafka.topics.batches
        self._states: dict[str, BatchState] = {}
        self._config = config
        # Asked for the true end: behind a transaction that is still open, of whichever batch, states are committed too.
        self._asking = _reader(config, "read_uncommitted")
        self._consumer = _reader(config, _COMMITTED, fetch_wait_max_ms=100)  # so soon it is told of the end
        try:
            self._read_to = dict.fromkeys(partitions_of(self._consumer, self._topic, config), 0)
        except BaseException:
            self.close()
            raise
        self._consumer.assign([TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in self._read_to])

    def read(self) -> Mapping[str, BatchState]:
        """Every batch as it stands now, in the order in which they changed last.

        Raises:
            BrokerUnavailable: it cannot be read.
        """
        ends = _ends(self._asking, self._topic, self._config)
        until_s = time.monotonic() + _PATIENCE_S
        while any(self._read_to.get(number, end) < end for number, end in enumerate(ends)):
            if time.monotonic() > until_s:
                raise BrokerUnavailable(
                    f"{self._topic} could not be read to its end in {_PATIENCE_S:g} s; see that its brokers run, and"
                    " call again: a transaction that a crash left open ends by itself"
                )
            for message in self._consumer.consume(_AT_ONCE, _POLL_S):
                self._take(message)
        return self._states

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()
        self._asking.close()

    def _take(self, message: Message) -> None:
        partition, offset = message.partition() or 0, message.offset() or 0
        if (error := message.error()) is None:
            state = self._codec.decode(message.value() or b"", BatchState)
            self._states.pop(state.batch_id, None)
            self._states[state.batch_id] = state
            self._read_to[partition] = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:  # what ended a transaction lies between it and the last state
            self._read_to[partition] = max(offset, self._read_to[partition])


def ends_of(config: Config, topic: str) -> list[int]:
    """Where each partition of a topic ends now, or the first transaction begins that is still open.

    Raises:
        BrokerUnavailable: the brokers do not answer, or there is no such topic.
    """
    with closing(_reader(config, _COMMITTED)) as consumer:
        return _ends(consumer, topic, config)


class Portion(msgspec.Struct, frozen=True):
    """What was read of a reply topic.

    Attributes:
        replies: rows, and their encoded replies.
        positions: by partition, up to where.
    """

    replies: list[tuple[int, bytes]]
    positions: dict[int, int]


class ReplyReader:
    """Reads the replies to a batch's rows off a reply topic that others share, by their headers alone.

    Args:
        positions: by partition, where to begin; one that is not there began after the batch.

    Attributes:
        gap: whether something is gone from Kafka that was not read.

    Raises:
        BrokerUnavailable: the brokers do not answer, or there is no such topic.
    """

    def __init__(self, config: Config, state: BatchState, positions: Mapping[int, int]) -> None:
        self.gap = False
        self._config = config
        self._topic = state.reply_topic
        self._prefix = f"{state.batch_id}-".encode()
        self._tenant = state.tenant.encode()
        self._begun = dict(positions)
        self._unended: dict[int, int] = {}
        """By partition that is not caught up yet, where it ended when it was opened; others go on writing behind."""
        self._checked_s = 0.0
        self._known: set[int] = set()
        self._consumer = _reader(config, _COMMITTED)
        try:
            self._follow_partitions()
        except BaseException:
            self.close()
            raise

    @property
    def at_end(self) -> bool:
        """Whether all is read that there was when reading began."""
        return not self._unended

    def poll(self, timeout_s: float) -> Portion:
        """What has come, a portion of bounded size; waits so long at most where there is nothing.

        Raises:
            BrokerUnavailable: the brokers refuse.
        """
        if time.monotonic() - self._checked_s > _METADATA_EVERY_S:
            with suppress(BrokerUnavailable):  # reading goes on by itself when they are back
                self._follow_partitions()
        portion = Portion([], {})
        first = self._consumer.poll(timeout_s)
        for message in (first, *self._consumer.consume(_AT_ONCE, 0)) if first is not None else ():
            self._take(message, portion)
        return portion

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()

    def _take(self, message: Message, portion: Portion) -> None:
        partition, offset = message.partition() or 0, message.offset() or 0
        if (error := message.error()) is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._unended.pop(partition, None)
                portion.positions[partition] = offset
            elif error.fatal():
                raise BrokerUnavailable(explain(error, self._topic, self._config.kafka.bootstrap))
            return
        if offset + 1 >= self._unended.get(partition, math.inf):
            del self._unended[partition]
        portion.positions[partition] = offset + 1
        headers: Any = message.headers() or ()  # typed for producing, where a dictionary will do too
        if row := self._row(headers):
            portion.replies.append((row, message.value() or b""))

    def _row(self, headers: Iterable[tuple[str, Any]]) -> int | None:
        """The row that a record answers; None where it is of another batch, or of none."""
        request_id = tenant = b""
        for name, value in headers:
            if name == REQUEST_ID:
                request_id = value or b""
            elif name == TENANT:
                tenant = value or b""
        number = request_id.removeprefix(self._prefix)
        ours = len(number) < len(request_id) and number.isdigit() and tenant == self._tenant
        return int(number) if ours else None

    def _follow_partitions(self) -> None:
        """Begin to read those that are new."""
        new = [one for one in partitions_of(self._consumer, self._topic, self._config) if one not in self._known]
        places = [TopicPartition(self._topic, number, self._begun.get(number, 0)) for number in new]
        ends: dict[int, int] = {}
        for place in places:
            oldest, ends[place.partition] = _bounds(self._consumer, place, self._config)
            self.gap |= place.offset < oldest
        if places:
            self._consumer.incremental_assign(places)
            self._known.update(new)
            self._unended |= ends
        self._checked_s = time.monotonic()


def _ends(consumer: Consumer, topic: str, config: Config) -> list[int]:
    places = (TopicPartition(topic, number) for number in partitions_of(consumer, topic, config))
    return [_bounds(consumer, place, config)[1] for place in places]


def _bounds(consumer: Consumer, place: TopicPartition, config: Config) -> tuple[int, int]:
    """Where a partition begins and ends."""
    until_s = time.monotonic() + RPC_TIMEOUT_S
    while True:
        try:
            return answered(lambda within_s: consumer.get_watermark_offsets(place, within_s))
        except KafkaException as error:
            # On a busy machine a client that has just connected does not always know yet what it was told.
            if error.args[0].code() != KafkaError._UNKNOWN_PARTITION or time.monotonic() > until_s:
                raise BrokerUnavailable(explain(error.args[0], place.topic, config.kafka.bootstrap)) from None
            time.sleep(_POLL_S)


def _reader(config: Config, isolation_level: str, **settings: Any) -> Consumer:
    return open_reader(
        config,
        client_id="forebay-batch",
        group_id="forebay-client-batch",
        isolation_level=isolation_level,
        auto_offset_reset="earliest",  # what is gone from Kafka is passed over, and told
        **settings,
    )
