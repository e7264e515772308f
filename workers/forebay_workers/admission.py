"""Who may begin an attempt: a task that was tried before runs again among few, and the last time alone."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .lanes import Delivery

TRIED_AT_ONCE = 16
"""Tasks that were begun before and run at the same time. All that ran when a worker ended are blamed for it: so few of
them are left for the last attempt, before which nothing else runs."""
RETRY_AFTER_S = 0.5
"""Pause after a first failure; it doubles with each further one, so that what is short of memory gets over it."""


@dataclass(frozen=True, slots=True)
class Entrants:
    """Tasks whose turn has come.

    Attributes:
        to_lines: they go on to the lines of their models.
        alone: it starts at once, because nothing runs, and nothing starts beside it.
        again_s: from now on, when the next pause is over; None: nobody pauses.
    """

    to_lines: list[Delivery] = field(default_factory=list)
    alone: Delivery | None = None
    again_s: float | None = None


class Admission:
    """The tasks of a worker before they enter a line. Pure: times are in seconds, of any one clock.

    Args:
        max_attempts: the attempt with this number is the last.
    """

    def __init__(self, max_attempts: int) -> None:
        self._max_attempts = max_attempts
        self._number = itertools.count()
        self._fresh: deque[Delivery] = deque()
        self._pausing: list[tuple[float, int, Delivery]] = []
        self._tried: deque[Delivery] = deque()
        self._last: deque[Delivery] = deque()
        self._tried_out: set[Delivery] = set()
        self._alone: Delivery | None = None

    def add(self, delivery: Delivery) -> None:
        """A task waits for its next attempt."""
        if not delivery.attempts:
            self._fresh.append(delivery)
        elif delivery.attempts < self._max_attempts - 1:
            self._tried.append(delivery)
        else:
            self._last.append(delivery)

    def add_failed(self, delivery: Delivery, now_s: float) -> None:
        """A task whose attempt just failed waits for the next one."""
        pause_s = RETRY_AFTER_S * 2 ** (delivery.attempts - 1)
        heapq.heappush(self._pausing, (now_s + pause_s, next(self._number), delivery))

    @property
    def alone_next(self) -> bool:
        """Whether a task runs alone, or waits to: nothing else may start."""
        return self._alone is not None or bool(self._last)

    def entrants(self, now_s: float, idle: bool) -> Entrants:
        """Whose turn has come; it is taken for used.

        Args:
            idle: whether nothing runs.
        """
        while self._pausing and self._pausing[0][0] <= now_s:
            self.add(heapq.heappop(self._pausing)[2])
        to_lines = list(self._fresh)
        self._fresh.clear()
        while self._tried and len(self._tried_out) < TRIED_AT_ONCE:
            delivery = self._tried.popleft()
            self._tried_out.add(delivery)
            to_lines.append(delivery)
        alone = None
        if self._last and self._alone is None and idle:
            alone = self._alone = self._last.popleft()
        return Entrants(to_lines, alone, self._pausing[0][0] - now_s if self._pausing else None)

    def ended(self, delivery: Delivery) -> None:
        """An attempt is over, or was given up before it began."""
        self._tried_out.discard(delivery)
        if delivery is self._alone:
            self._alone = None

    def remove(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out those of the waiting tasks that are not to run; they are returned."""
        removed = [one for queue in (self._fresh, self._tried, self._last) for one in queue if unwanted(one)]
        removed += [item[2] for item in self._pausing if unwanted(item[2])]
        gone = set(removed)
        self._fresh, self._tried, self._last = (
            deque(one for one in queue if one not in gone) for queue in (self._fresh, self._tried, self._last)
        )
        self._pausing = [item for item in self._pausing if item[2] not in gone]
        heapq.heapify(self._pausing)
        return removed
