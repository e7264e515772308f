"""The way in: how a reply finds the one client, of many, that waits for it.

Each client chooses a random *reply key* and sends it along with its requests (header ``forebay-reply-key``). Job and
workers use it as the Kafka key of the replies, so they all land on one partition, the one that the key hashes to.
The client reads that partition alone, from the moment before its first request, without a consumer group: nothing is
rebalanced when instances of a service come and go, and no instance reads what all others are told. Other clients'
keys may hash to the same partition; their replies are passed over by their headers, and never decoded.
"""

import logging
import math
import time
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from forebay_schemas.config import Config
from forebay_schemas.topic_probe import TopicProbe, TopicState

from .errors import BrokerUnavailable, explain
from .kafka_log import kafka_log
from .reply_key import partition_of

_METADATA_EVERY_S = 5.0
"""How soon it is noticed that partitions were added, or that the topic was made anew."""
_METADATA_TIMEOUT_S = 0.5  # the thread that asks also watches the timeouts
_ELECTING = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION)
"""Of a topic that was just made, or whose broker just left; over within a second or so."""
_ELECTION_POLL_S = 0.05
_TELL_EVERY_S = 10.0
_LOOK_BACK_S = 60.0
"""Before the last time at which the number of partitions was known; covers clocks that differ."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplyRecord:
    """A record of a reply topic, as Kafka carries it."""

    headers: list[tuple[str, bytes | None]]
    value: bytes


class Inbox:
    """A consumer of the one partition of a reply key, from its end on, committed records only.

    Used by one thread at a time.

    When partitions are added the key may hash to another one. Producers learn of it at different times, so from then
    on both are read, the new one from a while before the change was noticed. A topic that was deleted and made anew is
    read from its beginning.

    Args:
        reply_key: of the client.
        timeout_s: for finding the partition and its end.

    Raises:
        BrokerUnavailable: the brokers did not answer in time, or the topic does not exist.
    """

    def __init__(self, config: Config, topic: str, reply_key: str, timeout_s: float) -> None:
        self._topic = topic
        self._key = reply_key.encode()
        self._bootstrap = config.kafka.bootstrap
        self._settings = config.kafka.client(
            client_id="forebay-client",
            group_id=f"forebay-client-{reply_key}",  # librdkafka wants a name; no group is ever joined
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",  # rather more than too little
            # A broker answers one request of a connection after the other: asking for an end waits for a fetch.
            fetch_wait_max_ms=100,
            fetch_message_max_bytes=config.kafka.max_wire_bytes,
        )
        self._told_s = -math.inf
        self._probe = TopicProbe(config.kafka)
        self._consumer = self._new_consumer()
        try:
            self._begin(timeout_s)
        except BaseException:
            self._consumer.close()
            raise

    def poll(self, timeout_s: float) -> ReplyRecord | None:
        """The next record of the partition, anyone's, or None where none came within the timeout.

        Raises:
            BrokerUnavailable: nothing can be read any more: this user may not, for example.
        """
        if time.monotonic() >= self._check_at_s:
            self._follow_partitions()
        message = self._consumer.poll(timeout_s)
        if message is None:
            return None
        if error := message.error():
            if error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:  # neither passes by itself
                raise BrokerUnavailable(explain(error, self._topic, self._bootstrap))
            self._tell(error)
            return None
        headers: Any = message.headers()  # typed for producing, where values may be text too
        return ReplyRecord(headers or [], message.value() or b"")

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()

    def _tell(self, error: KafkaError) -> None:
        """Brokers that are away say so with every look."""
        if time.monotonic() > self._told_s + _TELL_EVERY_S:
            self._told_s = time.monotonic()
            _log.warning("reading %s: %s", self._topic, error.str())

    def _begin(self, timeout_s: float) -> None:
        self._read_only([self._end(time.monotonic() + timeout_s)])
        self._known_at_s = time.time()
        self._check_at_s = time.monotonic() + _METADATA_EVERY_S

    def _new_consumer(self) -> Consumer:
        return Consumer(self._settings, logger=kafka_log)

    def _read_only(self, places: list[TopicPartition]) -> None:
        self._consumer.incremental_assign(places)
        self._partitions = {place.partition for place in places}

    def _end(self, until_s: float) -> TopicPartition:
        """The end of the key's partition; while its leader is elected, that is waited for."""
        while True:
            try:
                state = self._probe.state(self._topic, _left_s(until_s))
                self._topic_id, partition = state.id, partition_of(self._key, state.partitions)
                place = TopicPartition(self._topic, partition)
                # The end is asked for, not left to be found by the first fetch: a reply that is quicker than that
                # would be missed.
                _, end = self._consumer.get_watermark_offsets(place, _left_s(until_s))
                return TopicPartition(self._topic, partition, end)
            except KafkaException as error:
                if error.args[0].code() not in _ELECTING or time.monotonic() >= until_s:
                    raise BrokerUnavailable(explain(error.args[0], self._topic, self._bootstrap)) from None
            time.sleep(_ELECTION_POLL_S)

    def _follow_partitions(self) -> None:
        self._check_at_s = time.monotonic() + _METADATA_EVERY_S
        try:
            state = self._probe.state(self._topic, _METADATA_TIMEOUT_S)
            partition = partition_of(self._key, state.partitions)
            if state.id != self._topic_id:
                self._begin_anew(state)
            elif partition not in self._partitions:
                self._consumer.incremental_assign([self._since_last_known(partition)])
                self._partitions.add(partition)
                _log.info("replies come on partition %d of %s too from now on", partition, self._topic)
        except KafkaException as error:
            _log.warning("the partitions of %s cannot be asked for: %s", self._topic, error.args[0].str())
            return
        self._known_at_s = time.time()

    def _since_last_known(self, partition: int) -> TopicPartition:
        since_ms = round((self._known_at_s - _LOOK_BACK_S) * 1000)
        place = TopicPartition(self._topic, partition, since_ms)
        _, end = self._consumer.get_watermark_offsets(place, _METADATA_TIMEOUT_S)
        [found] = self._consumer.offsets_for_times([place], timeout=_METADATA_TIMEOUT_S)
        if found.error:
            raise KafkaException(found.error)
        # OFFSET_END means that nothing was written since then, up to the end that was asked for just before.
        return TopicPartition(self._topic, partition, end if found.offset == OFFSET_END else found.offset)

    def _begin_anew(self, state: TopicState) -> None:
        """Read the topic that has taken the place of the one that was read: ``TopicState.id`` says why so.

        Producers that have not heard of it yet write where the key lay before.
        """
        self._consumer.close()
        self._consumer = self._new_consumer()
        numbers = {number for number in self._partitions if number < state.partitions}
        numbers.add(partition_of(self._key, state.partitions))
        self._read_only([TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in sorted(numbers)])
        self._topic_id = state.id
        _log.info("%s was made anew, and is read from its beginning", self._topic)


def _left_s(until_s: float) -> float:
    return max(0.001, until_s - time.monotonic())
