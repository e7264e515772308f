"""Reads the topics of replies and of feedback into the ledger, each record once, whatever was killed in between.

The ledger's own ``progress.json`` says where to go on. The consumer group's offsets are written afterwards, so that
lag can be seen where that of other consumers is; nothing reads them here, and no group is joined.
"""

import datetime as dt
import logging
import threading
import time
from collections import defaultdict
from contextlib import ExitStack, closing, suppress
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from forebay_client.errors import BrokerUnavailable, explain
from forebay_client.kafka_log import kafka_log
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode, ForebayError, RecordError
from forebay_schemas.metrics import LedgerMetrics
from forebay_schemas.metrics_server import serve_metrics
from forebay_schemas.registry import codec_for
from forebay_schemas.topic_probe import TopicProbe

from .feedback import FeedbackTable
from .folder import FEEDBACK, LedgerFolder, TopicIds
from .forgetting import carry_out, is_wished
from .replies import ReplyTable
from .tables import Entry, Table
from .upkeep import tidy
from .writer import LedgerWriter

_AT_ONCE = 2_000
"""Records of one read; their rows are Python objects, some 10 MB, until the read is done."""
_POLL_S = 0.2
"""How long a read waits for more, and so how soon a signal to stop is seen."""
_PARTITIONS_EVERY_S = 30.0
"""How soon added partitions are read; none of their records is missed, they are read from the beginning."""
_TIDY_EVERY_S = 600.0
_LAG_EVERY_S = 10.0
"""As often as it is scraped."""
_RPC_TIMEOUT_S = 10.0

_log = logging.getLogger(__name__)


def record(config: Config, stop: threading.Event) -> None:
    """Write all replies and feedback to the ledger until ``stop`` is set; what was read by then is written too.

    Its metrics are served from when it reads.

    Raises:
        BrokerUnavailable: the brokers do not answer, or a topic does not exist.
        ConfigError: another process writes to the folder, or has the port of the metrics.
        ForebayError: a topic has not what the ledger was reading.
    """
    with ExitStack() as opened:
        root = config.ledger.folder
        replies, feedback = (opened.enter_context(closing(LedgerFolder(each))) for each in (root, root / FEEDBACK))
        recorder = opened.enter_context(closing(Recorder(config, replies, feedback)))
        recorder.open()
        serve_metrics("ledger_port", config.metrics.ledger_port, "the ledger")
        recorder.run(stop)


class Recorder:
    """One process's way from the topics to the folders of replies and feedback."""

    def __init__(self, config: Config, replies: LedgerFolder, feedback: LedgerFolder) -> None:
        self._config = config
        self._codec: Codec = codec_for(config)
        self._metrics = LedgerMetrics()
        self._replies = LedgerWriter(replies, ReplyTable(replies, config), config.ledger)
        self._feedback = LedgerWriter(feedback, FeedbackTable(config, self._metrics), config.ledger)
        topics = config.kafka.topics
        self._writer_of = {
            # What the job itself asks is paid for too.
            **dict.fromkeys((topics.replies, *config.kafka.reply_topics, topics.audit), self._replies),
            **dict.fromkeys((topics.feedback, *config.feedback_topics), self._feedback),
        }
        self._reading: set[tuple[str, int]] = set()
        settings = config.kafka.client(
            client_id="forebay-ledger",
            group_id=f"{config.kafka.topic_prefix}-ledger",
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="error",  # a place that is gone is looked at anew by a restart, and never guessed
            fetch_message_max_bytes=config.kafka.max_wire_bytes,
        )
        self._consumer = Consumer(settings, logger=kafka_log)
        self._probe = TopicProbe(config.kafka)

    def open(self) -> None:
        """Find the partitions, and where to go on in each. For what is raised see ``record``."""
        found = self._topic_ids()
        for writer in (self._replies, self._feedback):
            anew = writer.begin({topic: found[topic] for topic in found if self._writer_of[topic] is writer})
            for topic in anew:
                _log.warning("%s was deleted and made anew; it is read from its beginning", topic)
        self._read_new_partitions()

    def run(self, stop: threading.Event) -> None:
        """See ``record``."""
        writers = (self._replies, self._feedback)
        look_s, tidy_s, lag_s = time.monotonic() + _PARTITIONS_EVERY_S, 0.0, 0.0
        while not stop.is_set():
            now_s = time.monotonic()
            self._replies.folder.beat()
            if now_s >= look_s:
                self._check_topic_ids()
                self._read_new_partitions()
                look_s = now_s + _PARTITIONS_EVERY_S
            if now_s >= tidy_s:
                now, keep_days = dt.datetime.now(dt.UTC), self._config.ledger.retention_days
                for writer in writers:
                    tidy(writer.folder, writer.table.schema, now, keep_days)
                tidy_s = now_s + _TIDY_EVERY_S
            if is_wished(self._replies.folder.root):
                self._forget()
            self._take(self._consumer.consume(_AT_ONCE, _POLL_S))
            for writer in writers:
                if writer.due(time.monotonic()):
                    self._flush(writer)
            if now_s >= lag_s:
                self._measure_lag()
                lag_s = now_s + _LAG_EVERY_S
        self._flush_all()

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _forget(self) -> None:
        self._flush_all()
        _log.info("took out %d rows that were to be forgotten", carry_out(self._replies.folder, self._feedback.folder))

    def _take(self, messages: list[Message]) -> None:
        taken: defaultdict[LedgerWriter, list[Entry]] = defaultdict(list)
        lost: list[str] = []
        for message in messages:
            error = message.error()
            if error is None:
                writer = self._writer_of[message.topic() or ""]
                taken[writer].append(self._entry(message, writer.table))
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                lost.append(f"{message.topic()}/{message.partition()} lost its place; start again: {error.str()}")
            else:
                _log.warning("reading %s: %s", message.topic(), error.str())  # librdkafka goes on by itself
        for writer, entries in taken.items():
            writer.add(entries, time.monotonic())
        if lost:
            self._flush_all()  # if the topic was made anew, what was read of the old one is nowhere else
            raise ForebayError(lost[0])

    def _flush_all(self) -> None:
        for writer in (self._replies, self._feedback):
            self._flush(writer)

    def _flush(self, writer: LedgerWriter) -> None:
        count = writer.gathered
        if not count:
            return
        writer.flush()
        if writer is self._replies:
            self._metrics.replies.inc(count)
        _log.info("wrote %d rows of %s", count, writer.table.name)
        ends = [
            TopicPartition(topic, partition, end)
            for topic, partitions in writer.ends.items()
            for partition, end in partitions.items()
            if (topic, partition) in self._reading
        ]
        with suppress(KafkaException):  # for those who watch the lag; the next one tells them as well
            self._consumer.commit(offsets=ends, asynchronous=True)

    def _measure_lag(self) -> None:
        written = {
            (topic, partition): self._writer_of[topic].ends.get(topic, {}).get(partition, 0)
            for topic, partition in self._reading
        }
        behind = self._probe.unread(written)
        if behind is not None:  # else a broker is away, and the last figure stays
            self._metrics.lag.set(behind)

    def _entry(self, message: Message, table: Table) -> Entry:
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        record = None
        try:
            found = self._codec.decode(message.value() or b"", table.record)
            table.check(found, topic)
            record = found
        except RecordError as error:
            other_record = error.code is ErrorCode.UNKNOWN_SCHEMA and topic == self._config.kafka.topics.audit
            if not other_record:  # audits are there too
                _log.warning("%s/%d: offset %d is passed over: %s", topic, partition, offset, error)
        return Entry(topic, partition, offset, record)

    def _topic_ids(self) -> TopicIds:
        """Of the topics that can be asked for now."""
        return self._probe.ids(self._writer_of, _RPC_TIMEOUT_S)  # what is wrong is told where partitions are asked for

    def _check_topic_ids(self) -> None:
        for topic, found in self._topic_ids().items():
            if self._writer_of[topic].folder.progress.topic_ids.get(topic, found) != found:
                self._flush_all()
                raise ForebayError(f"{topic} was deleted and made anew while it was read; start again")

    def _read_new_partitions(self) -> None:
        places: list[TopicPartition] = []
        for topic in self._writer_of:
            try:
                found: Any = self._consumer.list_topics(topic, timeout=_RPC_TIMEOUT_S).topics[topic]
                if found.error:
                    raise KafkaException(found.error)
                new = [number for number in sorted(found.partitions) if (topic, number) not in self._reading]
                places += [TopicPartition(topic, number, self._start(topic, number)) for number in new]
            except KafkaException as error:
                if not self._reading:
                    reason = explain(error.args[0], topic, self._config.kafka.bootstrap)
                    raise BrokerUnavailable(reason) from None
                _log.warning("the partitions of %s cannot be asked for: %s", topic, error.args[0].str())
        if places:
            self._consumer.incremental_assign(places)
            self._reading |= {(place.topic, place.partition) for place in places}
            _log.info("reading %d partitions of %s", len(self._reading), ", ".join(self._writer_of))

    def _start(self, topic: str, partition: int) -> int:
        writer = self._writer_of[topic]
        end = writer.ends.get(topic, {}).get(partition)
        if end is None:
            return OFFSET_BEGINNING
        low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), _RPC_TIMEOUT_S)
        if end > high:
            raise ForebayError(
                f"ledger.folder: {writer.folder.root} has {topic}/{partition} up to offset {end}, but the"
                f" topic ends at {high}: Kafka lost records of it, or it was made anew before the ledger knew its id;"
                " take the topic out of `ends` in progress.json to read it from its beginning, which repeats what the"
                " folder has of it"
            )
        if end < low:
            _log.warning("%s/%d: Kafka deleted %d records before they were read", topic, partition, low - end)
        return max(end, low)
