"""A whole reply topic, shared out among the members of a consumer group, with repeats removed."""

import logging
import threading
import time
import uuid
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import Reply
from forebay_schemas.topic_probe import TopicProbe
from forebay_schemas.topics import Headers

from .errors import BrokerUnavailable, explain
from .kafka_log import kafka_log
from .seen import SeenReplies

READ_BACK_RECORDS = 10_000
"""Records of each partition, before the committed offset, that are read again to know repeats of them."""
_RPC_TIMEOUT_S = 10.0
_LOOK_EVERY_S = 10.0
"""How soon it is noticed that the topic was made anew."""
_STATE_TIMEOUT_S = 0.5

_log = logging.getLogger(__name__)


class ReplyFeed:
    """Reads replies one after another; a reply counts as handled when the next one is asked for.

    The group's progress is committed behind what was handled, once a second and on leaving: nothing is left out, and
    after a member that was killed, the next one gets what it handled in its last second again. Repeats written by a
    restored job are removed by tenant and request id, within the last ``seen.LIMIT`` replies that this member has
    read. They lie on the same partition as the first, so a member that takes a partition over reads the last
    ``READ_BACK_RECORDS`` of it back and knows them too. A topic that was deleted and made anew is read from its
    beginning.

    Args:
        group: the consumer group. It begins with the oldest reply there is, and goes on where it stopped. None: all
            replies for this feed alone, and nothing is remembered of it.
        from_beginning: whether a feed without a group begins with the oldest reply, or from now on.

    Safe to close from another thread.

    Raises:
        BrokerUnavailable: the brokers do not answer, or the topic does not exist.
    """

    def __init__(self, config: Config, codec: Codec, topic: str, group: str | None, from_beginning: bool) -> None:
        self._topic = topic
        self._codec = codec
        self._group = group
        self._seen = SeenReplies()
        self._in_work: Message | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._anew_until_s = 0.0
        self._settings = config.kafka.client(
            client_id="forebay-client",
            group_id=group or f"forebay-client-{uuid.uuid4().hex}",
            enable_auto_commit=group is not None,
            auto_commit_interval_ms=1000,
            enable_auto_offset_store=False,  # what was handled is stored, not what was read
            partition_assignment_strategy="cooperative-sticky",
            isolation_level="read_committed",
            # A group may have committed nothing for a partition that one member hands to the next: "latest" would
            # leave out what was written in between.
            auto_offset_reset="earliest" if group or from_beginning else "latest",
            fetch_message_max_bytes=config.kafka.max_wire_bytes,
        )
        self._probe = TopicProbe(config.kafka)
        try:
            # A subscription waits for brokers and topics without a word; this says what is missing.
            self._topic_id = self._probe.state(topic, _RPC_TIMEOUT_S).id
        except KafkaException as error:
            raise BrokerUnavailable(explain(error.args[0], topic, config.kafka.bootstrap)) from None
        self._subscribe()

    def poll(self, timeout_s: float) -> Reply | None:
        """The next reply, or None where none came within the timeout or the feed is closed."""
        with self._lock:
            if self._closed:
                return None
            if time.monotonic() >= self._look_at_s:
                self._look()
            self._handled()
            message = self._consumer.poll(timeout_s)
            if message is None:
                return None
            if error := message.error():
                _log.warning("reading %s: %s", self._topic, error.str())
                return None
            self._in_work = message
            return self._first_time(message)

    def close(self) -> None:
        """Commit what was handled and leave the group. The reply given last counts as not handled."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._consumer.close()

    def _subscribe(self) -> None:
        self._look_at_s = time.monotonic() + _LOOK_EVERY_S
        self._fresh_from: dict[int, int] = {}
        self._consumer = Consumer(self._settings, logger=kafka_log)
        self._consumer.subscribe([self._topic], on_assign=self._on_assign)

    def _look(self) -> None:
        """See whether the topic is still the one that is read; ``TopicState.id`` says why another is begun anew."""
        self._look_at_s = time.monotonic() + _LOOK_EVERY_S
        try:
            found = self._probe.state(self._topic, _STATE_TIMEOUT_S).id
        except KafkaException:  # brokers that are away; and a topic that is gone has no replies
            return
        if found != self._topic_id:
            _log.info("%s was made anew, and is read from its beginning", self._topic)
            self._topic_id, self._in_work = found, None
            self._consumer.close()
            # Until each member has seen it, the group gets offsets of the topic that is gone for the new one.
            self._anew_until_s = time.monotonic() + 2 * _LOOK_EVERY_S
            self._settings["auto.offset.reset"] = "earliest"  # whoever wanted what comes from now on wants all of it
            self._subscribe()

    def _handled(self) -> None:
        message, self._in_work = self._in_work, None
        if message is None or self._group is None:
            return
        try:
            self._consumer.store_offsets(message)
        except KafkaException:
            # It was in work for longer than max.poll.interval.ms, and the group gave the partition away.
            _log.warning("%s: offset %s was handled too late and comes again", self._topic, message.offset())

    def _first_time(self, message: Message) -> Reply | None:
        partition, offset = message.partition() or 0, message.offset() or 0
        if read_back := offset < self._fresh_from.get(partition, 0):
            self._in_work = None  # it is behind the committed offset
        try:
            raw_headers: Any = message.headers()  # typed for producing, where values may be text too
            headers = Headers.from_kafka(raw_headers)
            if headers.tenant and headers.request_id and not self._seen.add(headers.tenant, headers.request_id):
                return None
            return None if read_back else self._codec.decode(message.value() or b"", Reply)
        except ForebayError as error:
            _log.warning("%s: offset %d is passed over: %s", self._topic, offset, error)
            return None

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if time.monotonic() < self._anew_until_s:
            for place in partitions:
                place.offset = OFFSET_BEGINNING
        elif self._group is not None and partitions:
            try:
                for place in consumer.committed(partitions, timeout=_RPC_TIMEOUT_S):
                    self._read_back(consumer, place, partitions)
            except KafkaException as error:
                _log.warning("repeats of earlier replies cannot be known: %s", error.args[0].str())
        consumer.incremental_assign(partitions)

    def _read_back(self, consumer: Consumer, committed: TopicPartition, partitions: list[TopicPartition]) -> None:
        self._fresh_from[committed.partition] = max(0, committed.offset)
        if committed.offset < 0:
            return  # nothing was handled yet
        oldest, _ = consumer.get_watermark_offsets(committed, _RPC_TIMEOUT_S)
        for place in partitions:
            if place.partition == committed.partition:
                place.offset = max(oldest, committed.offset - READ_BACK_RECORDS)
