"""Who comes first: the places for tasks, and which generations run, rest or wait."""

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay_schemas.records import Hop, Lane, Request, Task

from .offsets import Partition

if TYPE_CHECKING:
    from forebay_schemas.spans import Span

    from .backends import Generation


@dataclass(eq=False, slots=True, kw_only=True)
class Delivery:
    """One record of a tier's topic, as it was read. Compared by identity: a record read again is another one.

    Attributes:
        task: what the record holds, and ``request`` what the task holds; None where it cannot be read.
        attempts: generations begun, by this process or by those that had the partition before.
        history: how attempts ended that had no outcome.
        written_ms: when the record was written, in milliseconds since the epoch; not positive where nobody says.
        span: of its trace; None before its turn, and where the trace is not recorded.
        hops: generations that do not go out, of all attempts of this process; they are paid for however it ends.
        cut_short: one that was cancelled, where its backend knows what it has generated.
    """

    tier: str
    lane: Lane
    partition: Partition
    offset: int
    value: bytes
    key: bytes | None = None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    task: Task | None = None
    request: Request | None = None
    attempts: int = 0
    answered: bool = False
    """Whether an attempt led to an outcome in this process."""
    urgent: bool = False
    """Whether it began as an interactive task does: it is one, or came near the end of its window before."""
    history: list[str] = field(default_factory=list)
    written_ms: int = 0
    span: "Span | None" = None
    hops: tuple[Hop, ...] = ()
    cut_short: "Generation | None" = None

    @property
    def generation_id(self) -> str:
        """What the model knows this attempt by."""
        return f"{self.name}/{self.attempts}"

    @property
    def name(self) -> str | None:
        """What a repeat of the task would have in common with it; equal to its header ``forebay-task``."""
        return self.task.name if self.task else None


class Room:
    """The places for tasks of one model and lane: a task holds one from being read until its outcome is committed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._freed = asyncio.Event()

    async def wait(self, timeout_s: float) -> bool:
        """Wait until there is a place; False when none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._held >= self._limit:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> None:
        """A task was read."""
        self._held += 1

    def give_back(self) -> None:
        """A task is committed or given up."""
        self._held -= 1
        self._freed.set()

    def close(self) -> None:
        """There is no place for any further task."""
        self._limit = 0


@dataclass(frozen=True, slots=True)
class Moves:
    """What changes now: generations to start, to hold, and to let go on.

    Attributes:
        again_ms: from now on, when there is more to change although nothing happens; None: nothing is foreseen.
    """

    start: list[Delivery]
    hold: list[Delivery]
    release: list[Delivery]
    again_ms: float | None = None


class Line:
    """The tasks of one model. Pure: it decides, and is told what happened.

    Interactive tasks come first. While one runs, no more than ``batch_beside_interactive`` batch generations go on
    beside it and the others rest; when none is left for a moment they fill the model. A batch task near the end of
    its window counts as interactive from then on.

    Args:
        concurrency: generations that the model runs at the same time.
        resume_after_ms: how long no interactive task may have run before batch ones fill the model again. To begin,
            or to go on, takes the model a long step, which an interactive task that comes meanwhile would wait for.
        raise_after_ms: age of a batch task from which on it counts as interactive.
    """

    def __init__(
        self, concurrency: int, batch_beside_interactive: int, resume_after_ms: float, raise_after_ms: float
    ) -> None:
        self._concurrency = concurrency
        self._beside = batch_beside_interactive
        self._resume_after_ms = resume_after_ms
        self._raise_after_ms = raise_after_ms
        self._busy = False
        self._quiet_from_ms = -math.inf
        self._number = itertools.count()
        self._urgent: list[tuple[int, int, Delivery]] = []
        self._batch: list[tuple[int, int, Delivery]] = []
        self._next_raise_ms = math.inf
        self._running: dict[Delivery, None] = {}
        self._held: dict[Delivery, None] = {}

    def add(self, delivery: Delivery) -> None:
        """A task may be generated; higher priority first, then the order of arrival."""
        batch = delivery.lane is Lane.BATCH
        priority = delivery.request.priority if delivery.request else 0
        heapq.heappush(self._batch if batch else self._urgent, (-priority, next(self._number), delivery))
        if batch:
            self._next_raise_ms = min(self._next_raise_ms, self._raised_at_ms(delivery))

    def moves(self, now_ms: float) -> Moves:
        """What to change now; it is taken for done."""
        self._raise(now_ms)
        urgent = {delivery for delivery in self._running if self._is_urgent(delivery, now_ms)}
        release = [delivery for delivery in self._held if delivery in urgent]
        start: list[Delivery] = []
        while self._urgent and len(urgent) + len(start) < self._concurrency:
            start.append(heapq.heappop(self._urgent)[2])
            start[-1].urgent = True
        busy = len(urgent) + len(start)
        places = max(0, self._concurrency - busy)  # batch tasks that have become urgent run beside all others
        if self._busy and not busy:
            self._quiet_from_ms = now_ms + self._resume_after_ms
        self._busy = busy > 0
        wait_ms = self._quiet_from_ms - now_ms
        quiet = not busy and not 0 < wait_ms <= self._resume_after_ms  # more only where the clock was set back
        if not quiet:
            places = min(places, self._beside)
        batch = [delivery for delivery in self._running if delivery not in urgent]
        going = [delivery for delivery in batch if delivery not in self._held]
        hold = going[places:]  # those that began last have the least to lose
        free = places - len(going)
        if free > 0:
            release += (resting := [delivery for delivery in batch if delivery in self._held][:free])
            free -= len(resting)
            while self._batch and free > 0 and len(batch) < self._concurrency:
                start.append(heapq.heappop(self._batch)[2])
                free -= 1
        self._running |= dict.fromkeys(start)
        self._held = {one: None for one in (*self._held, *hold) if one not in release}
        waits = not busy and not quiet and (self._held or self._batch)
        return Moves(start, hold, release, wait_ms if waits else None)

    def rouse(self) -> list[Delivery]:
        """Nothing new starts for a while, so what rests may go on; those that rested."""
        rested = list(self._held)
        self._held.clear()
        return rested

    def ended(self, delivery: Delivery) -> None:
        """A generation is over."""
        self._running.pop(delivery, None)
        self._held.pop(delivery, None)

    def remove(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out those of the waiting tasks that are not to run; they are returned."""
        removed = [item[2] for queue in (self._urgent, self._batch) for item in queue if unwanted(item[2])]
        gone = set(removed)
        for queue in (self._urgent, self._batch):
            queue[:] = [item for item in queue if item[2] not in gone]
            heapq.heapify(queue)
        return removed

    def is_held(self, delivery: Delivery) -> bool:
        """Whether a generation that was started rests."""
        return delivery in self._held

    @property
    def held(self) -> int:
        """How many generations rest."""
        return len(self._held)

    def _raise(self, now_ms: float) -> None:
        if now_ms < self._next_raise_ms:
            return
        raised = [item for item in self._batch if self._is_urgent(item[2], now_ms)]
        for item in raised:
            heapq.heappush(self._urgent, item)
        self._batch = [item for item in self._batch if item not in raised]
        heapq.heapify(self._batch)
        self._next_raise_ms = min(map(self._raised_at_ms, _deliveries(self._batch)), default=math.inf)

    def _is_urgent(self, delivery: Delivery, now_ms: float) -> bool:
        return delivery.lane is Lane.INTERACTIVE or self._raised_at_ms(delivery) <= now_ms

    def _raised_at_ms(self, delivery: Delivery) -> float:
        return delivery.request.created_ms + self._raise_after_ms if delivery.request else math.inf


def _deliveries(queue: Iterable[tuple[int, int, Delivery]]) -> Iterable[Delivery]:
    return (delivery for _, _, delivery in queue)
