"""Reads the reply topics into the ledger, each record once, whatever was killed in between.

The ledger's own ``progress.json`` says where to go on. The consumer group's offsets are written afterwards, so that
lag can be seen where that of other consumers is; nothing reads them here, and no group is joined.
"""

import datetime as dt
import logging
import threading
import time
from contextlib import suppress
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from forebay_client.errors import BrokerUnavailable, explain
from forebay_client.kafka_log import kafka_log
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError, ForebayError, RecordError
from forebay_schemas.metrics import LedgerMetrics
from forebay_schemas.records import Reply
from forebay_schemas.registry import codec_for
from prometheus_client import start_http_server

from .columns import Entry
from .folder import LedgerFolder
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
_LAG_TIMEOUT_S = 2.0
_MAX_COMPLETED_MS = 253_402_300_800_000
"""The year 10000: beyond it there are no dates."""

_log = logging.getLogger(__name__)


def record(config: Config, stop: threading.Event) -> None:
    """Write all replies to the ledger until ``stop`` is set; what was read by then is written too.

    Its metrics are served from when it reads.

    Raises:
        BrokerUnavailable: the brokers do not answer, or a topic does not exist.
        ConfigError: another process writes to the folder, or has the port of the metrics.
        ForebayError: a topic is not the one that the ledger was reading.
    """
    folder = LedgerFolder(config.ledger.folder)
    recorder = None
    try:
        recorder = Recorder(config, folder)
        recorder.open()
        _serve_metrics(config.metrics.ledger_port)
        recorder.run(stop)
    finally:
        if recorder is not None:
            recorder.close()
        folder.close()


class Recorder:
    """One process's way from the topics to the folder."""

    def __init__(self, config: Config, folder: LedgerFolder) -> None:
        self._config = config
        self._codec: Codec = codec_for(config)
        self._folder = folder
        self._writer = LedgerWriter(folder, config)
        self._metrics = LedgerMetrics()
        self._topics = (config.kafka.topics.replies, *config.kafka.reply_topics)
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

    def open(self) -> None:
        """Find the partitions, and where to go on in each. For what is raised see ``record``."""
        self._read_new_partitions()

    def run(self, stop: threading.Event) -> None:
        """See ``record``."""
        look_s, tidy_s, lag_s = time.monotonic() + _PARTITIONS_EVERY_S, 0.0, 0.0
        while not stop.is_set():
            now_s = time.monotonic()
            self._folder.beat()
            if now_s >= look_s:
                self._read_new_partitions()
                look_s = now_s + _PARTITIONS_EVERY_S
            if now_s >= tidy_s:
                tidy(self._folder, dt.datetime.now(dt.UTC), self._config.ledger.retention_days)
                tidy_s = now_s + _TIDY_EVERY_S
            messages = self._consumer.consume(_AT_ONCE, _POLL_S)
            self._writer.add(map(self._entry, filter(self._is_record, messages)), time.monotonic())
            if self._writer.due(time.monotonic()):
                self._flush()
            if now_s >= lag_s:
                self._measure_lag()
                lag_s = now_s + _LAG_EVERY_S
        self._flush()

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _flush(self) -> None:
        count = self._writer.gathered
        if not count:
            return
        self._writer.flush()
        self._metrics.replies.inc(count)
        _log.info("wrote %d replies", count)
        ends = [
            TopicPartition(topic, partition, end)
            for topic, partitions in self._writer.ends.items()
            for partition, end in partitions.items()
            if (topic, partition) in self._reading
        ]
        with suppress(KafkaException):  # for those who watch the lag; the next one tells them as well
            self._consumer.commit(offsets=ends, asynchronous=True)

    def _measure_lag(self) -> None:
        behind = 0
        for topic, partition in self._reading:
            place = TopicPartition(topic, partition)
            try:
                low, high = self._consumer.get_watermark_offsets(place, _LAG_TIMEOUT_S)
            except KafkaException:
                return  # a broker is away; the last figure stays
            behind += high - max(low, self._writer.ends.get(topic, {}).get(partition, 0))
        self._metrics.lag.set(behind)

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise ForebayError(f"{message.topic()}/{message.partition()} lost its place; start again: {error.str()}")
        _log.warning("reading %s: %s", message.topic(), error.str())  # librdkafka goes on by itself
        return False

    def _entry(self, message: Message) -> Entry:
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        reply = None
        try:
            reply = self._codec.decode(message.value() or b"", Reply)
            if not 0 <= reply.completed_ms < _MAX_COMPLETED_MS:
                reply = None
                _log.warning("%s/%d: offset %d is passed over: completed_ms is no time", topic, partition, offset)
        except RecordError as error:
            _log.warning("%s/%d: offset %d is passed over: %s", topic, partition, offset, error)
        return Entry(topic, partition, offset, reply)

    def _read_new_partitions(self) -> None:
        places: list[TopicPartition] = []
        for topic in self._topics:
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
            _log.info("reading %d partitions of %s", len(self._reading), ", ".join(self._topics))

    def _start(self, topic: str, partition: int) -> int:
        end = self._writer.ends.get(topic, {}).get(partition)
        if end is None:
            return OFFSET_BEGINNING
        low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), _RPC_TIMEOUT_S)
        if end > high:
            raise ForebayError(
                f"ledger.folder: {self._config.ledger.folder} has {topic}/{partition} up to offset {end}, but the"
                f" topic ends at {high}, so it was made anew; take the topic out of `ends` in progress.json"
                " to read it from its beginning, which repeats what the folder has of it"
            )
        if end < low:
            _log.warning("%s/%d: Kafka deleted %d records before they were read", topic, partition, low - end)
        return max(end, low)


def _serve_metrics(port: int) -> None:
    if port == 0:
        return
    try:
        start_http_server(port)
    except OSError as error:
        raise ConfigError(f"metrics.ledger_port: {port} cannot be used ({error}); give the ledger its own") from None
