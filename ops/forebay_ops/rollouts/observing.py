"""Reads what speaks for and against live rollouts: from the beginning of their stages, then as it comes.

Nothing is kept: whoever starts anew reads the same records again, and counts the same.
"""

import logging
import time
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition
from forebay_client.errors import BrokerUnavailable, explain
from forebay_client.kafka_log import kafka_log
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import Audit, Feedback, Reply
from forebay_schemas.registry import codec_for
from forebay_schemas.rollouts import Rollout, Stage

from .evidence import Counting

_AT_ONCE = 1_000
_RPC_TIMEOUT_S = 10.0
_CLOCKS_DIFFER_MS = 300_000
"""Records are dated by brokers, stages by whoever moves them. What is read too early is told by its own time."""

Place = tuple[str, int]

_log = logging.getLogger(__name__)


class Observer:
    """One reader of replies, feedback and audits; it reads nothing while no rollout answers anybody."""

    def __init__(self, config: Config) -> None:
        topics = config.kafka.topics
        self._config = config
        self._codec = codec_for(config)
        self.counting = Counting(config)
        self._records: dict[str, type[Reply] | type[Feedback] | type[Audit]] = {
            topics.audit: Audit,
            **dict.fromkeys((topics.replies, *config.kafka.reply_topics), Reply),
            **dict.fromkeys((topics.feedback, *config.feedback_topics), Feedback),
        }
        self._followed: dict[str, Rollout] = {}
        self._read: dict[Place, int] = {}
        """By partition, the offset up to which it is read; empty while nothing is."""
        self._ends: dict[Place, int] = {}
        """By partition, where it ended when reading began."""
        self._consumer = Consumer(
            config.kafka.client(
                client_id="forebay-rollouts",
                group_id=f"{config.kafka.topic_prefix}-rollouts",  # a name is asked for; none is joined
                enable_auto_commit=False,
                enable_partition_eof=True,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                fetch_message_max_bytes=config.kafka.max_wire_bytes,
            ),
            logger=kafka_log,
        )

    def follow(self, rollouts: dict[str, Rollout]) -> None:
        """From now on these rollouts hold.

        Raises:
            BrokerUnavailable: the topics cannot be read.
        """
        if rollouts == self._followed:
            return
        self.counting.follow(rollouts)
        watched = [one.since_ms for one in rollouts.values() if one.stage.live and one.stage is not Stage.ALL]
        if not watched:
            self._consumer.unassign()
            self._read, self._ends = {}, {}
        elif not self._read:
            self._assign(min(watched))
        self._followed = dict(rollouts)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to read."""
        return not self._read

    @property
    def caught_up(self) -> bool:
        """Whether all is counted that was there when reading began; what is read before is a part of the evidence."""
        return self._has_read(self._ends)

    def read(self, timeout_s: float) -> None:
        """Count what has come, after waiting for so long at most."""
        for message in self._consumer.consume(_AT_ONCE, timeout_s) if self._read else ():
            self._take(message)

    def read_all(self, timeout_s: float = 600.0) -> None:
        """Count all that is in the topics now.

        Raises:
            BrokerUnavailable: they cannot be read in time.
        """
        try:
            ends = {place: self._end(place) for place in self._read}
        except KafkaException as error:
            raise self._unavailable(error) from None
        until_s = time.monotonic() + timeout_s
        while not self._has_read(ends):
            if time.monotonic() > until_s:
                raise BrokerUnavailable(f"the replies since the stage began could not be read in {timeout_s:g} s")
            self.read(0.2)

    def close(self) -> None:
        self._consumer.close()

    def _assign(self, since_ms: int) -> None:
        places: list[TopicPartition] = []
        from_ms = max(0, since_ms - _CLOCKS_DIFFER_MS)  # below zero are offsets of their own meaning
        try:
            for topic in self._records:
                found: Any = self._consumer.list_topics(topic, timeout=_RPC_TIMEOUT_S).topics[topic]
                if found.error:
                    raise KafkaException(found.error)
                places += [TopicPartition(topic, number, from_ms) for number in found.partitions]
            starts = self._consumer.offsets_for_times(places, timeout=_RPC_TIMEOUT_S)
            ends = {(start.topic, start.partition): self._end((start.topic, start.partition)) for start in starts}
            for start in starts:
                if start.offset == OFFSET_END:  # nothing that young is there yet
                    start.offset = ends[start.topic, start.partition]
            self._consumer.assign(starts)
        except KafkaException as error:
            raise self._unavailable(error) from None
        self._read = {(start.topic, start.partition): start.offset for start in starts}
        self._ends = ends

    def _end(self, place: Place) -> int:
        return self._consumer.get_watermark_offsets(TopicPartition(*place), _RPC_TIMEOUT_S)[1]

    def _has_read(self, ends: dict[Place, int]) -> bool:
        return all(self._read[place] >= end for place, end in ends.items())

    def _take(self, message: Message) -> None:
        place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
        if (error := message.error()) is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._read[place] = offset
            else:
                _log.warning("reading %s: %s", place[0], error.str())  # librdkafka goes on by itself
            return
        self._read[place] = offset + 1
        try:
            record = self._codec.decode(message.value() or b"", self._records[place[0]])
        except ForebayError as problem:
            if place[0] == self._config.kafka.topics.audit:
                return  # replies to what the job itself asks
            _log.warning("%s/%d: offset %d is passed over: %s", *place, offset, problem)
            return
        if isinstance(record, Reply):
            self.counting.reply(record)
        elif isinstance(record, Audit):
            self.counting.audit(record)
        else:
            self.counting.feedback(record)

    def _unavailable(self, error: KafkaException) -> BrokerUnavailable:
        topic = self._config.kafka.topics.replies
        return BrokerUnavailable(explain(error.args[0], topic, self._config.kafka.bootstrap))
