"""Who comes first: the places for tasks, and which generations run, rest or wait."""

import asyncio
import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from forebay_schemas.batches import row_of
from forebay_schemas.records import Hop, Lane, Request, Task

from .durations import Durations
from .offsets import Partition
from .windows import Pace, Window

if TYPE_CHECKING:
    from forebay_schemas.spans import Span

    from .backends import Generation

SHARED = 1 / 2
"""Of a model's places, the most that batch tasks keep while interactive ones want them: those that cannot rest, and
those that are needed for the window to hold."""

ASIDE = 64
"""Tasks that are over without having used the model, and wait for nothing but to be committed, at most."""

PRESSED_MS = 1_000.0
"""For so long after an interactive task has found every place taken, more is asked of a model than it can do."""

_PRESSING = -math.inf


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
    """Whether it began as an interactive task does: it is one, or pressed."""
    sought: bool = False
    """Whether a worker before this one may have put it into a provider's batch."""
    handed_over: bool = False
    """Whether it waits in a provider's batch, or ended there."""
    came_back: bool = False
    """Whether it is called directly after that."""
    aside: bool = False
    """Whether it holds no place any more."""
    history: list[str] = field(default_factory=list)
    written_ms: int = 0
    span: "Span | None" = None
    hops: tuple[Hop, ...] = ()
    cut_short: "Generation | None" = None
    turn_s: float = 0.0
    """When its turn came, in seconds of the monotonic clock."""

    @property
    def generation_id(self) -> str:
        """What the model knows this attempt by."""
        return f"{self.name}/{self.attempts}"

    @property
    def name(self) -> str | None:
        """What a repeat of the task would have in common with it; equal to its header ``forebay-task``."""
        return self.task.name if self.task else None

    @property
    def cancelled_as(self) -> tuple[str, ...]:
        """The names under which it may be taken back: of its task, and of the batch that its request is a row of."""
        row = row_of(self.request.request_id) if self.request else None
        batch = (batch_name(self.request.tenant, row[0]),) if self.request and row else ()
        return (self.task.task_id, *batch) if self.task else batch


def batch_name(tenant: str, batch_id: str) -> str:
    """What a batch is called among those of all tenants; no task is called so."""
    return f"{tenant}/{batch_id}"


class Room:
    """The places for tasks of one model and lane: a task holds one from being read until its outcome is committed, or
    until it is set aside."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._widened_by = 0
        self._aside = 0
        self._held = 0
        self._freed = asyncio.Event()
        self.unread: dict[str, int] = {}
        """By topic, the tasks that wait outside, as they were last counted."""

    @property
    def free(self) -> int:
        """How many places there are."""
        return max(0, self._limit + self._widened_by - self._held)

    async def wait(self, timeout_s: float) -> bool:
        """Wait until there is a place; False when none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.free:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> None:
        """A task was read."""
        self._held += 1

    def give_back(self, delivery: "Delivery") -> None:
        """A task is committed or given up."""
        if delivery.aside:
            self._aside -= 1
        else:
            self._held -= 1
        self._freed.set()

    def set_aside(self, delivery: "Delivery") -> None:
        """A task is over that has not used the model. It leaves its place where few others have done so: while more is
        asked than can be done, those that are late are read as fast as they come, and who is not late is found."""
        if self._aside < ASIDE:
            self._aside += 1
            delivery.aside = True
            self._held -= 1
            self._freed.set()

    def widen(self, places: int) -> None:
        """Have at least so many places besides, for tasks that wait without using the model."""
        if places > self._widened_by:
            self._widened_by = places
            self._freed.set()

    def close(self) -> None:
        """There is no place for any further task."""
        self._limit = self._widened_by = 0


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


class Kind(NamedTuple):
    """What batch tasks have in common that wait for each other only: those of another kind may begin before them."""

    tier: str
    model: str
    """The one that they ask first: the tier's own, or that of a rollout."""
    rests: bool
    """Whether their generations can be held."""


_Waiting = list[tuple[float, int, Delivery]]
"""A heap: by rank, then in the order of arrival."""


class Line:
    """The tasks of one model. Pure: it decides, and is told what happened.

    Interactive tasks come first. While one runs, few batch generations go on beside it and the others rest; when none
    is left for a moment they fill the model. Those that cannot rest never take more than half of it. When the window
    of the batch lane presses, it keeps as many places as it needs, up to half.

    While interactive tasks find no place, those that have waited until an answer would hardly be in time do not get
    one: all would wait that long and no answer be in time, as those that wait longest come first. That cuts a burst
    short by no more than it must. Where it has gone on for as long as a task has in all, it is no burst: then half of
    that time is all that anybody waits for a place, so that those who get one have time to spare.

    Args:
        concurrency: generations that the model runs at the same time.
        beside: batch generations that go on beside interactive ones, as long as those find places.
        resume_after_ms: how long no interactive task may have run before batch ones fill the model again. To begin,
            or to go on, takes the model a long step, which an interactive task that comes meanwhile would wait for.
        kind_of: of a batch task, as it comes.
    """

    def __init__(
        self,
        concurrency: int,
        beside: int,
        resume_after_ms: float,
        window: Window,
        kind_of: Callable[[Delivery], Kind],
    ) -> None:
        self._concurrency = concurrency
        self._beside = beside
        self._shared = max(1, int(concurrency * SHARED))
        self._resume_after_ms = resume_after_ms
        self._window = window
        self._kind_of = kind_of
        self._busy = False
        self._quiet_from_ms = -math.inf
        self._raised = 0
        self._pace = Pace()
        self._durations = Durations()
        self._pressed_from_ms = self._pressed_until_ms = -math.inf
        self._number = itertools.count()
        self._interactive: _Waiting = []
        self._batch: defaultdict[Kind, _Waiting] = defaultdict(list)
        self._running: dict[Delivery, Kind | None] = {}
        """None: an interactive one."""
        self._held: dict[Delivery, None] = {}

    def add(self, delivery: Delivery) -> None:
        """A task may be generated; higher priority first, then the order of arrival."""
        queue = self._batch[self._kind_of(delivery)] if delivery.lane is Lane.BATCH else self._interactive
        priority = delivery.request.priority if delivery.request else 0
        heapq.heappush(queue, (-priority, next(self._number), delivery))

    def took(self, delivery: Delivery, ms: float, *, cut_short: bool = False) -> None:
        """An answer was there so long after its turn had come, or was given up then, because its time was over."""
        if delivery.request is not None and delivery.lane is Lane.INTERACTIVE:
            self._durations.took(delivery.tier, delivery.request, ms, cut_short=cut_short)

    def hopeless(self, now_ms: float) -> list[Delivery]:
        """Take out the interactive tasks that are to be refused; to be called before ``moves``."""
        pressed = self._pressed(now_ms)
        if self._interactive and self._interactive_running >= self._concurrency - self._kept:
            if not pressed:
                self._pressed_from_ms = now_ms
            self._pressed_until_ms = now_ms + PRESSED_MS
        elif not pressed:
            return []
        free = max(0, self._concurrency - self._kept - self._interactive_running)
        begin = {one for _, _, one in heapq.nsmallest(free, self._interactive)}
        refused = {
            one for _, _, one in self._interactive if self._hardly_in_time(one, now_ms, waits_on=one not in begin)
        }
        return self.remove(refused.__contains__) if refused else []

    def look_ahead(self, now_ms: float, unread: int) -> None:
        """See to it that the window of the batch lane holds; to be called every second or so.

        Args:
            unread: batch tasks that are not here yet.
        """
        for queue in self._batch.values():
            queue[:] = [(_PRESSING if self._presses_at_ms(one) <= now_ms else rank, n, one) for rank, n, one in queue]
            heapq.heapify(queue)
        presses_at_ms = [*map(self._presses_at_ms, self._batch_tasks())]
        pressing = sum(at_ms <= now_ms for at_ms in presses_at_ms)
        next_ms = min((at_ms for at_ms in presses_at_ms if at_ms > now_ms), default=math.inf)
        needed = self._pace.places_for(len(presses_at_ms) + unread, next_ms - now_ms)
        self._raised = min(max(pressing, needed), self._shared)

    def moves(self, now_ms: float, takes: Callable[[Kind], int]) -> Moves:
        """What to change now; it is taken for done.

        Args:
            takes: generations of a tier and model that are taken at present: none while they are left alone. Only
                batch tasks wait for that, and of them not those that press: others may have an answer for them.
        """
        batch = {one: kind for one, kind in self._running.items() if kind is not None}
        going = [one for one in batch if one not in self._held]
        yielding = [one for one in going if batch[one].rests]
        fixed = self._fixed
        busy = self._interactive_running
        places = self._concurrency - self._kept
        start: list[Delivery] = []
        while self._interactive and busy < places:
            start.append(heapq.heappop(self._interactive)[2])
            start[-1].urgent = True
            busy += 1
        wait_ms = self._wait_ms(busy > 0, now_ms)
        places = self._concurrency - busy
        if busy or wait_ms:
            lasts = self._pressed(now_ms) and now_ms - self._pressed_from_ms >= PRESSED_MS
            beside = 0 if self._interactive or lasts else self._beside
            places = min(places, max(beside, self._raised))
        hold = yielding[max(0, places - fixed) :]  # those that began last have the least to lose
        release = [one for one in batch if one in self._held][: max(0, places - len(going))]
        begun = self._begin(places, [batch[one] for one in (*going, *release)], fixed, now_ms, takes)
        self._running |= dict.fromkeys(start) | begun
        self._held = {one: None for one in (*self._held, *hold) if one not in release}
        self._pace.keeps(len(self._running) - busy - len(self._held), now_ms)
        waits = wait_ms and (self._held or self._waiting)
        return Moves([*start, *begun], hold, release, wait_ms if waits else None)

    def rouse(self) -> list[Delivery]:
        """Nothing new starts for a while, so what rests may go on; those that rested."""
        rested = list(self._held)
        self._held.clear()
        return rested

    def ended(self, delivery: Delivery, *, answered: bool) -> None:
        """A generation is over; ``answered``: not because it was stopped or its model failed."""
        if self._running.pop(delivery, None) is not None and answered and delivery.lane is Lane.BATCH:
            self._pace.answered()
        self._held.pop(delivery, None)

    def remove(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out those of the waiting tasks that are not to run; they are returned."""
        queues = (self._interactive, *self._batch.values())
        removed = [item[2] for queue in queues for item in queue if unwanted(item[2])]
        gone = set(removed)
        for queue in queues:
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

    @property
    def _interactive_running(self) -> int:
        return sum(kind is None for kind in self._running.values())

    @property
    def _fixed(self) -> int:
        """Batch generations that go on whatever interactive tasks want."""
        return sum(kind is not None and not kind.rests and one not in self._held for one, kind in self._running.items())

    @property
    def _kept(self) -> int:
        """Places that interactive tasks do not get."""
        batch = len(self._running) - self._interactive_running
        return max(self._fixed, min(self._raised, batch + self._waiting))

    @property
    def _waiting(self) -> int:
        return sum(map(len, self._batch.values()))

    def _wait_ms(self, busy: bool, now_ms: float) -> float:
        """How long batch tasks still may not fill the model; 0 where they may, and while others run."""
        if self._busy and not busy:
            self._quiet_from_ms = now_ms + self._resume_after_ms
        self._busy = busy
        wait_ms = self._quiet_from_ms - now_ms
        return wait_ms if not busy and 0 < wait_ms <= self._resume_after_ms else 0  # more: the clock was set back

    def _begin(
        self, places: int, going: Sequence[Kind], fixed: int, now_ms: float, takes: Callable[[Kind], int]
    ) -> dict[Delivery, Kind]:
        """Take batch tasks for the places that are left from what waits."""
        begun: dict[Delivery, Kind] = {}
        taken = {kind: takes(kind) for kind in self._batch}
        asking = Counter((kind.tier, kind.model) for kind in going)

        def may_begin(kind: Kind) -> bool:
            if not self._batch[kind] or not (kind.rests or fixed < self._shared):
                return False
            has_to_go = not taken[kind] and self._batch[kind][0][0] == _PRESSING
            return has_to_go or (len(going) + len(begun) < places and asking[kind[:2]] < taken[kind])

        while kind := min(filter(may_begin, self._batch), key=lambda kind: self._batch[kind][0], default=None):
            delivery = heapq.heappop(self._batch[kind])[2]
            delivery.urgent = self._presses_at_ms(delivery) <= now_ms
            begun[delivery] = kind
            asking[kind[:2]] += 1
            fixed += not kind.rests
        return begun

    def _pressed(self, now_ms: float) -> bool:
        """Whether an interactive task has found every place taken a moment ago."""
        return now_ms < self._pressed_until_ms <= now_ms + PRESSED_MS  # more: the clock was set back

    def _hardly_in_time(self, delivery: Delivery, now_ms: float, *, waits_on: bool) -> bool:
        """Whether the time that a task has left is less than it needs, and less than half of what it had; of one that
        waits on, one of both is enough once the model has been wanted for longer than that was."""
        request = delivery.request
        if request is None or request.deadline_ms is None:
            return False
        had_ms = request.deadline_ms - request.created_ms
        enough_ms = self._durations.enough_ms(delivery.tier, request)
        least_ms = min(enough_ms, had_ms / 2)
        if waits_on and now_ms - self._pressed_from_ms >= had_ms:
            least_ms = max(enough_ms if enough_ms < had_ms else 0.0, had_ms / 2)
        return request.deadline_ms - now_ms < least_ms

    def _batch_tasks(self) -> Iterator[Delivery]:
        yield from (one for one in self._running if one.lane is Lane.BATCH)
        yield from (one for queue in self._batch.values() for _, _, one in queue)

    def _presses_at_ms(self, delivery: Delivery) -> float:
        return self._window.presses_at_ms(delivery.request) if delivery.request else math.inf
