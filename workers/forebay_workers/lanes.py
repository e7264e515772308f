"""Who comes first: the places a worker has for tasks, and the order in which waiting tasks start."""

import asyncio
from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field

from forebay_schemas.records import Lane

from .offsets import Partition

BATCH_RESERVE = 8
"""Batch work leaves one place in this many free, so that an interactive task never waits for one behind it."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Delivery:
    """One record of a tier's topic, as it was read. Compared by identity: a record read again is another one."""

    tier: str
    lane: Lane
    partition: Partition
    offset: int
    value: bytes
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


class Room:
    """The places for tasks in one process: a task holds one from being read until its outcome is committed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._freed = asyncio.Event()

    def free(self, lane: Lane) -> bool:
        """Whether a task of this lane may be read now."""
        reserve = self._limit // BATCH_RESERVE if lane is Lane.BATCH else 0
        return self._held < self._limit - reserve

    async def wait(self, lane: Lane, timeout_s: float) -> bool:
        """Wait until there is a place for this lane; False when none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.free(lane):
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> None:
        """A task was read."""
        self._held += 1

    def give_back(self, count: int) -> None:
        """Tasks are committed or given up."""
        self._held -= count
        self._freed.set()

    def close(self) -> None:
        """There is no place for any further task."""
        self._limit = 0


class Waiting:
    """Tasks that were read and wait for their model, interactive ones first, each lane in the order of arrival."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, deque[Delivery]] = {Lane.INTERACTIVE: deque(), Lane.BATCH: deque()}

    def add(self, delivery: Delivery) -> None:
        self._lanes[delivery.lane].append(delivery)

    def next(self) -> Delivery | None:
        """The task to start next, no longer waiting; None when nothing waits."""
        for lane in self._lanes.values():
            if lane:
                return lane.popleft()
        return None

    def drop(self, partitions: Container[Partition]) -> int:
        """Forget the tasks of these partitions; the number forgotten."""
        before = sum(map(len, self._lanes.values()))
        for lane, deliveries in self._lanes.items():
            self._lanes[lane] = deque(delivery for delivery in deliveries if delivery.partition not in partitions)
        return before - sum(map(len, self._lanes.values()))
