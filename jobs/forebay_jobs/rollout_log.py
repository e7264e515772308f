"""Reads rollouts from the control topic: all that there are, then each change as it comes."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from forebay_schemas.codec import Codec
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import Control
from forebay_schemas.rollouts import Rollout, RolloutError, follow, of_control
from forebay_schemas.sections import KafkaConfig

_AT_ONCE = 500
_POLL_S = 0.2
"""A read ends with the first record; without one it lasts this long, and so does a shutdown."""
_RPC_TIMEOUT_S = 10.0
_RETRY_S = 1.0

logger = logging.getLogger(__name__)


class RolloutLog:
    """One reader of the topic, from its beginning: compaction leaves the newest record of each rollout."""

    def __init__(self, config: KafkaConfig, codec: Codec) -> None:
        self._topic = config.topics.control
        self._codec = codec
        self._read: dict[int, int] = {}
        """By partition, the offset up to which it is read."""
        self.rollouts: dict[str, Rollout] = {}
        """By name, also those that are over."""
        self.overwritten: set[str] = set()
        """Names of those whose last record does not count: compaction would keep that one, and revive what it says."""
        self._consumer = Consumer(
            config.client(
                group_id=f"{config.topic_prefix}-rollouts",  # a name is asked for; none is joined
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="earliest",
                fetch_message_max_bytes=config.max_wire_bytes,
                logger=logging.getLogger("kafka.rollouts"),
            )
        )

    def catch_up(self, timeout_s: float = 30.0) -> dict[str, Rollout]:
        """Read all that is in the topic now; the rollouts.

        Raises:
            KafkaException: the brokers do not answer, or have no such topic.
            RolloutError: they answer too slowly.
        """
        ends, until_s = self.ends(), time.monotonic() + timeout_s
        while not self.has_read(ends):
            if time.monotonic() > until_s:
                raise RolloutError(f"{self._topic}: could not be read in {timeout_s:g} s; try again")
            self.poll()
        return self.rollouts

    def ends(self) -> dict[int, int]:
        """By partition, the offset at which it ends now. For what is raised see ``catch_up``."""
        self._open()
        return {
            number: self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), _RPC_TIMEOUT_S)[1]
            for number in self._read
        }

    def has_read(self, ends: dict[int, int]) -> bool:
        """Whether all is read up to there."""
        return all(self._read[number] >= offset for number, offset in ends.items())

    def poll(self, timeout_s: float = _POLL_S) -> bool:
        """Read what has come since; whether it changed a rollout. For what is raised see ``catch_up``."""
        self._open()
        before = self.rollouts
        messages = [message] if (message := self._consumer.poll(timeout_s)) else []
        for message in (*messages, *(self._consumer.consume(_AT_ONCE, 0) if messages else ())):
            self._take(message)
        return self.rollouts != before

    def close(self) -> None:
        self._consumer.close()

    def _open(self) -> None:
        if self._read:
            return
        found: Any = self._consumer.list_topics(self._topic, timeout=_RPC_TIMEOUT_S).topics[self._topic]
        if found.error:
            raise KafkaException(found.error)
        self._consumer.assign([TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in found.partitions])
        self._read = dict.fromkeys(found.partitions, 0)

    def _take(self, message: Message) -> None:
        number, offset = message.partition() or 0, message.offset() or 0
        if (error := message.error()) is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._read[number] = offset
            else:
                logger.warning("reading %s: %s", self._topic, error.str())  # librdkafka goes on by itself
            return
        self._read[number] = offset + 1
        try:
            control = self._codec.decode(message.value() or b"", Control) if message.value() else None
            rollout = control and of_control(control)
        except ForebayError as error:
            logger.warning("%s/%d: offset %d is passed over: %s", self._topic, number, offset, error)
            return
        if rollout is None:
            return
        self.rollouts = follow(self.rollouts, rollout)
        if self.rollouts[rollout.name] == rollout:
            self.overwritten.discard(rollout.name)
        else:
            self.overwritten.add(rollout.name)


class RolloutFollower:
    """A thread that tells of the rollouts as they change.

    Args:
        on_change: told of all rollouts, on that thread; first when the topic was read to its end.
    """

    def __init__(self, config: KafkaConfig, codec: Codec, on_change: Callable[[dict[str, Rollout]], None]) -> None:
        self._config = config
        self._codec = codec
        self._on_change = on_change
        self._stop = threading.Event()
        self._caught_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)

    def start(self, patience_s: float) -> None:
        """Begin, and wait for so long at most until what there is is known."""
        self._thread.start()
        if not self._caught_up.wait(patience_s):
            logger.warning("the rollouts are not known yet; until they are, the configuration alone holds")

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with closing(RolloutLog(self._config, self._codec)) as log:
                    self._follow(log)
            except KafkaException as error:
                logger.warning("the rollouts cannot be read: %s", error)
                self._stop.wait(_RETRY_S)
            except Exception:  # without this thread no rollback would ever be heard of
                logger.exception("the rollouts cannot be followed, on a defect; tried again")
                self._stop.wait(_RETRY_S)

    def _follow(self, log: RolloutLog) -> None:
        ends = log.ends()
        while not log.has_read(ends):  # beside its requests a job may take its time for a long topic
            if self._stop.is_set():
                return
            log.poll()
        self._on_change(log.rollouts)
        self._caught_up.set()
        while not self._stop.is_set():
            if log.poll():
                self._on_change(log.rollouts)
