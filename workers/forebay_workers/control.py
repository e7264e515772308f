"""Hears the commands that concern tasks: which of them, and of which batches, nobody wants any more."""

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_END, KafkaException, Message, TopicPartition
from confluent_kafka.aio import AIOConsumer
from forebay_schemas.batches import is_batch
from forebay_schemas.codec import Codec
from forebay_schemas.commands import CANCEL, CANCEL_TASK
from forebay_schemas.errors import RecordError
from forebay_schemas.records import Control
from forebay_schemas.sections import KafkaConfig

from .lanes import batch_name

REMEMBER_S = 86_400.0
"""As long as a batch task may wait for a worker: one that is read after its cancellation is known by it. Commands
of this time are also read back at the start."""
LIMIT = 100_000
"""Tasks and batches that are remembered at most; one takes about 200 bytes."""

_POLL_S = 0.2
"""A poll ends with the first record; without one it lasts this long, and so does a shutdown."""
_RPC_TIMEOUT_S = 10.0
_RETRY_S = 1.0

_log = logging.getLogger(__name__)


class ControlReader:
    """Reads all of the control topic, for this process alone, and remembers which tasks are cancelled.

    Args:
        on_cancel: called on the event loop with the name of what is cancelled, usually a task of another worker. It may
            be told again what it was told before, and at the start it is told what was cancelled lately.
    """

    def __init__(
        self,
        config: KafkaConfig,
        codec: Codec,
        on_cancel: Callable[[str], None],
        now_ms: Callable[[], float] = lambda: time.time() * 1000,
    ) -> None:
        self._config = config
        self._topic = config.topics.control
        self._codec = codec
        self._on_cancel = on_cancel
        self._now_ms = now_ms
        self._cancelled: OrderedDict[str, int] = OrderedDict()

    def is_cancelled(self, name: str) -> bool:
        """Whether a task, or a batch, was cancelled lately, so that nothing need be generated for it.

        Args:
            name: one of ``Delivery.cancelled_as``.
        """
        issued_ms = self._cancelled.get(name)
        return issued_ms is not None and self._now_ms() - issued_ms < REMEMBER_S * 1000

    async def run(self) -> None:
        """Read until cancelled. Brokers that are away are waited for, and records that cannot be read passed over."""
        consumer = AIOConsumer(
            self._config.client(
                group_id=f"{self._config.topic_prefix}-control-{uuid.uuid4()}",  # a name is asked for; none is joined
                enable_auto_commit=False,
                isolation_level="read_committed",
                auto_offset_reset="earliest",  # rather more than too little
                fetch_message_max_bytes=self._config.max_wire_bytes,
                logger=logging.getLogger("kafka.control"),
            ),
            max_workers=2,  # a poll, and the close that waits for it
        )
        try:
            await self._assign(consumer)
            while True:
                message = await consumer.poll(_POLL_S)
                if message is not None:
                    self._take(message)
        finally:
            await consumer.close()

    async def _assign(self, consumer: AIOConsumer) -> None:
        since_ms = round(self._now_ms() - REMEMBER_S * 1000)
        while True:
            try:
                await consumer.assign(await self._places(consumer, since_ms))
                return
            except KafkaException as error:
                _log.warning("%s cannot be read yet: %s", self._topic, error.args[0].str())
                await asyncio.sleep(_RETRY_S)

    async def _places(self, consumer: AIOConsumer, since_ms: int) -> list[TopicPartition]:
        found: Any = (await consumer.list_topics(self._topic, timeout=_RPC_TIMEOUT_S)).topics[self._topic]
        if found.error:
            raise KafkaException(found.error)
        places = [TopicPartition(self._topic, partition, since_ms) for partition in found.partitions]
        # The ends are asked for first: a command that is written meanwhile lies behind them.
        ends = [(await consumer.get_watermark_offsets(place, _RPC_TIMEOUT_S))[1] for place in places]
        starts = await consumer.offsets_for_times(places, timeout=_RPC_TIMEOUT_S)
        for start, end in zip(starts, ends, strict=True):
            if start.error:
                raise KafkaException(start.error)
            if start.offset == OFFSET_END:  # nothing that young was there
                start.offset = end
        return starts

    def _take(self, message: Message) -> None:
        if error := message.error():
            _log.warning("reading %s: %s", self._topic, error.str())
            return
        value = message.value()
        if value is None:  # compaction's way of taking a command back
            return
        try:
            control = self._codec.decode(value, Control)
        except RecordError as error:
            _log.warning("%s: offset %s is passed over: %s", self._topic, message.offset(), error)
            return
        if name := _cancelled_in(control):
            self._remember(name, control.issued_ms)
            self._on_cancel(name)

    def _remember(self, name: str, issued_ms: int) -> None:
        self._cancelled[name] = issued_ms
        self._cancelled.move_to_end(name)
        if len(self._cancelled) > LIMIT:
            self._cancelled.popitem(last=False)


def _cancelled_in(control: Control) -> str | None:
    """The name of what a command cancels, where that is a matter of the workers."""
    told = control.arguments
    if control.command == CANCEL_TASK:
        return told.get("task_id")
    if control.command == CANCEL and is_batch(batch := told.get("request_id", "")):
        return batch_name(told.get("tenant", ""), batch)
    return None  # which task answers a single request only the job knows
