"""The keyed operator: the desk on Flink's checkpointed state and processing-time timers."""

import logging
from collections.abc import Iterator
from typing import Any

import msgspec
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.records import Result
from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, MapStateDescriptor, ValueStateDescriptor

from forebay_jobs.buckets import bucket_names
from forebay_jobs.desk import Desk
from forebay_jobs.forgetting import Forgetting
from forebay_jobs.look_ahead import look_ahead_threads
from forebay_jobs.messages import Arrival, Asker, Cancel, Flight, Forget, Invalidate, Place, Thumb
from forebay_jobs.reuse.memory import LearnedMemory
from forebay_jobs.runtime import runtime_for

from .rows import ARRIVAL, CANCELLATION, FORGETTING, INVALIDATION, THUMB, now_ms, outgoing_row, raw_bytes

logger = logging.getLogger(__name__)


class DeskOperator(KeyedProcessFunction):
    """Arrivals, commands, feedback and results of one bucket in; replies, tasks and events out."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def open(self, runtime_context: RuntimeContext) -> None:
        runtime = runtime_for(self._config)
        self._pool = look_ahead_threads(self._config.embedding.calls)
        with runtime.locked():
            self._codec = runtime.codec
            self._desk = Desk(
                self._config,
                runtime.codec,
                runtime.answers,
                runtime.semantic,
                runtime.dispatcher,
                runtime.shadows(),
                runtime.metrics,
                runtime.arms,
                self._pool,
                runtime.pressure,
            )
            buckets = bucket_names(self._config.desk.buckets)
            self._memory = LearnedMemory(runtime.namespaces, buckets)
            self._forgetting = Forgetting(self._config, runtime.codec, runtime.semantic, runtime.namespaces, buckets)
        self._metrics = runtime.metrics
        self._state = _FlinkState(runtime_context, self._config.desk.batch_window_ms)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def process_element(self, value: Any, ctx: Any) -> Iterator[Row]:  # pyright: ignore[reportIncompatibleMethodOverride]
        now = now_ms()
        self._state.timers, self._state.bucket = ctx.timer_service(), ctx.get_current_key()
        payload = raw_bytes(value.payload)
        if value.kind == ARRIVAL:
            arrival = msgspec.msgpack.decode(payload, type=Arrival)
            sent = self._desk.arrive(self._state, arrival, now)
        elif value.kind == CANCELLATION:
            sent = self._desk.cancel(self._state, msgspec.msgpack.decode(payload, type=Cancel), now)
        elif value.kind == INVALIDATION:
            sent = self._desk.invalidate(self._state, msgspec.msgpack.decode(payload, type=Invalidate), now)
        elif value.kind == FORGETTING:
            forget = msgspec.msgpack.decode(payload, type=Forget)
            sent = self._forgetting.take(self._state, self._state.bucket, forget, now)
        elif value.kind == THUMB:
            sent = self._desk.thumb(self._state, msgspec.msgpack.decode(payload, type=Thumb), now)
        else:
            try:
                result = self._codec.decode(payload, Result)
            except RecordError as error:
                self._metrics.results.labels("invalid").inc()
                logger.warning("a record of the results topic is no result (%s)", error)
                return
            sent = self._desk.settle(self._state, result, now)
        for record in sent:
            yield outgoing_row(record)

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[Row]:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._state.timers, self._state.bucket = ctx.timer_service(), ctx.get_current_key()
        self._state.fired_ms = timestamp
        # The timer's own time counts if the clock was set back meanwhile: what is due must not wait for ever.
        for record in self._desk.tick(self._state, max(timestamp, now_ms())):
            yield outgoing_row(record)
        self._memory.tend(self._state, self._state.bucket, now_ms())


class _FlinkState:
    """`DeskState` on Flink's keyed state; the current key is the bucket.

    Values are MessagePack of msgspec structs, so fields with defaults can be added without losing state.
    """

    timers: Any = None
    bucket: str = ""
    fired_ms: int = 0
    """The time of the timer that fired."""

    def __init__(self, context: RuntimeContext, window_ms: int) -> None:
        def map_state(name: str, key_type: Any) -> Any:
            # PICKLED_BYTE_ARRAY: with PRIMITIVE_ARRAY(BYTE) checkpoints fail in thread mode.
            return context.get_map_state(MapStateDescriptor(name, key_type, Types.PICKLED_BYTE_ARRAY()))

        self._flights = map_state("flights", Types.STRING())
        self._waiters = map_state("waiters", Types.STRING())
        self._places = map_state("places", Types.STRING())
        self._due = map_state("due", Types.LONG())
        self._orphans = map_state("orphans", Types.STRING())
        self._orphan_queue = context.get_state(ValueStateDescriptor("orphan-queue", Types.PICKLED_BYTE_ARRAY()))
        self._pending = map_state("pending-flights", Types.STRING())
        # Where jobs before "pending-flights" kept the same; what nobody reads in a savepoint of theirs is lost.
        self._pending_before = context.get_list_state(ListStateDescriptor("pending", Types.STRING()))
        self._invalidations = context.get_list_state(ListStateDescriptor("invalidations", Types.PICKLED_BYTE_ARRAY()))
        self._thumbs = context.get_list_state(ListStateDescriptor("thumbs", Types.PICKLED_BYTE_ARRAY()))
        self._learned = map_state("learned", Types.STRING())
        self._window_ms = window_ms
        self._new: dict[str, list[str]] = {}
        """Of the buckets that were asked for it: what was noted since. A map of many is not read for a few."""

    def flight(self, key: str) -> Flight | None:
        data = self._flights.get(key)
        return msgspec.msgpack.decode(data, type=Flight) if data else None

    def put_flight(self, key: str, flight: Flight) -> None:
        self._flights.put(key, msgspec.msgpack.encode(flight))

    def drop_flight(self, key: str) -> None:
        self._flights.remove(key)

    def waiter(self, key: str, number: int) -> Asker | None:
        data = self._waiters.get(f"{key}/{number}")
        return msgspec.msgpack.decode(data, type=Asker) if data else None

    def put_waiter(self, key: str, number: int, asker: Asker) -> None:
        self._waiters.put(f"{key}/{number}", msgspec.msgpack.encode(asker))

    def drop_waiter(self, key: str, number: int) -> None:
        self._waiters.remove(f"{key}/{number}")

    def place(self, name: str) -> Place | None:
        data = self._places.get(name)
        return msgspec.msgpack.decode(data, type=Place) if data else None

    def put_place(self, name: str, place: Place) -> None:
        self._places.put(name, msgspec.msgpack.encode(place))

    def drop_place(self, name: str) -> None:
        self._places.remove(name)

    def names(self, prefix: str) -> list[str]:
        return [name for name in self._places if name.startswith(prefix)]

    def add_pending(self, key: str) -> None:
        self._pending.put(key, b"")
        if self.bucket in self._new:
            self._new[self.bucket].append(key)
        self.look_soon()

    def take_new(self) -> list[str]:
        new = self._new.get(self.bucket)
        self._new[self.bucket] = []
        if new is not None:
            return new
        for key in self._pending_before.get() or ():
            self._pending.put(key, b"")
        self._pending_before.clear()
        return list(self._pending)

    def drop_pending(self, key: str) -> None:
        self._pending.remove(key)

    def look_soon(self) -> None:
        # Timers at one time are one timer: all arrivals of a window share it.
        self.timers.register_processing_time_timer((now_ms() // self._window_ms + 1) * self._window_ms)

    def wake(self, key: str, at_ms: int) -> None:
        second = at_ms // 1000 + 1
        keys = self._due.get(second)
        known = msgspec.msgpack.decode(keys, type=list[str]) if keys else []
        self._due.put(second, msgspec.msgpack.encode([*known, key]))
        self.timers.register_processing_time_timer(second * 1000)

    def take_due(self, now_ms: int) -> list[str]:
        # Every second that has keys has a timer too, so none is missed and the map need not be searched.
        second = self.fired_ms // 1000
        keys = self._due.get(second)
        if not keys:
            return []
        self._due.remove(second)
        return msgspec.msgpack.decode(keys, type=list[str])

    def orphan(self, task_id: str) -> Result | None:
        data = self._orphans.get(task_id)
        return msgspec.msgpack.decode(data, type=Result) if data else None

    def put_orphan(self, result: Result) -> None:
        self._orphans.put(result.task_id, msgspec.msgpack.encode(result))

    def drop_orphan(self, task_id: str) -> None:
        self._orphans.remove(task_id)

    def orphan_queue(self) -> list[tuple[int, str]]:
        data = self._orphan_queue.value()
        return msgspec.msgpack.decode(data, type=list[tuple[int, str]]) if data else []

    def put_orphan_queue(self, queue: list[tuple[int, str]]) -> None:
        if queue:
            self._orphan_queue.update(msgspec.msgpack.encode(queue))
        else:
            self._orphan_queue.clear()

    def add_invalidation(self, command: Invalidate) -> None:
        self._invalidations.add(msgspec.msgpack.encode(command))

    def take_invalidations(self) -> list[Invalidate]:
        waiting = [msgspec.msgpack.decode(data, type=Invalidate) for data in self._invalidations.get() or ()]
        self._invalidations.clear()
        return waiting

    def learned(self) -> dict[str, tuple[int, bytes]]:
        return {key: msgspec.msgpack.decode(data, type=tuple[int, bytes]) for key, data in self._learned.items()}

    def put_learned(self, key: str, now_ms: int, learned: bytes) -> None:
        self._learned.put(key, msgspec.msgpack.encode((now_ms, learned)))

    def drop_learned(self, key: str) -> None:
        self._learned.remove(key)

    def add_thumb(self, thumb: Thumb) -> None:
        self._thumbs.add(msgspec.msgpack.encode(thumb))

    def take_thumbs(self) -> list[Thumb]:
        waiting = [msgspec.msgpack.decode(data, type=Thumb) for data in self._thumbs.get() or ()]
        self._thumbs.clear()
        return waiting
