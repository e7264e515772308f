"""Looks up by meaning, batch after batch, what waits in all buckets of a slot, on threads beside the desk's.

Embedding a batch takes as long as hundreds of arrivals. Were the desk to wait for it, so would all that comes to the
desk, and soon what is behind that in the intake, exact hits among it. So the desk goes on, and is told at a later look.
What waits here is of one process and one life: a restored desk hands its leaders in again.
"""

import contextlib
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import NamedTuple

from forebay_schemas.records import Lane

from .caches.semantic import Found, SemanticCache
from .messages import Arrival
from .throttle import Pressure

_NICE = 10
"""A tenth of the usual weight."""

logger = logging.getLogger(__name__)


def look_ahead_threads(count: int) -> Executor:
    """Threads for one ``LookAhead``. Where the processor is short they have what others leave: embedding takes all that
    it gets, and an exact hit beside it so little."""
    return ThreadPoolExecutor(count, "look-ahead", _give_way)


def _give_way() -> None:
    if sys.platform == "linux":  # elsewhere a process has one priority for all of its threads
        with contextlib.suppress(OSError):  # refused, or its process has given way further already
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


class _Asked(NamedTuple):
    bucket: str
    arrival: Arrival


class LookAhead:
    """See the module. Arrivals go by the keys of the flights that they lead. For one thread, the desk's."""

    def __init__(
        self,
        semantic: SemanticCache,
        most: int,
        room: int,
        pressure: Pressure,
        pool: Executor | None = None,
        batches: int = 1,
    ) -> None:
        """
        Args:
            most: arrivals in one batch.
            room: arrivals that may wait.
            pressure: where to note that half of the room is taken: the other half is for those whom nobody holds back.
            pool: where batches are looked up; None: at once, by whoever takes what is known.
            batches: how many of them at a time.
        """
        self._semantic = semantic
        self._most = most
        self._room = room
        self._pressure = pressure
        self._pool = pool
        self._most_batches = batches
        self._waiting: dict[str, _Asked] = {}
        self._begun: dict[Future[dict[str, Found]], dict[str, _Asked]] = {}
        """The batches that are being looked up, oldest first, and of each what is still asked for."""
        self._found: dict[str, dict[str, Found]] = {}
        """By bucket, then by key."""
        self._left: Counter[str] = Counter()
        """How many of each bucket are not known yet."""

    def gather(self, bucket: str, key: str, arrival: Arrival, now_ms: int) -> None:
        """Look this one up. While there is no room, this takes until a batch is done: nobody is handed more than can
        be kept."""
        self.drop(key)
        asked = _Asked(bucket, arrival)
        self._left[bucket] += 1
        if arrival.question is None:
            self._tell(key, asked, Found())  # by meaning nothing can be known of it
            return
        self._waiting[key] = asked
        self._note_crowd()
        while len(self._waiting) > self._room:
            if len(self._begun) < self._most_batches:
                self._begin(now_ms)
            else:
                self._keep(next(iter(self._begun)))

    def has(self, key: str) -> bool:
        """Whether this one is looked up, or was and is not taken yet."""
        return any(key in keys for keys in (self._waiting, *self._begun.values(), *self._found.values()))

    def drop(self, key: str) -> bool:
        """This one need not be looked up any more; whether it was to be."""
        had = self.has(key)
        for unknown in (self._waiting, *self._begun.values()):
            if asked := unknown.pop(key, None):
                self._left[asked.bucket] -= 1
        for found in self._found.values():
            found.pop(key, None)
        return had

    def take(self, bucket: str, now_ms: int) -> dict[str, Found]:
        """What is known by now about a bucket's arrivals; each is told once."""
        while True:
            for told in [told for told in self._begun if told.done()]:
                self._keep(told)
            if len(self._begun) == self._most_batches or not self._begin(now_ms):
                break
        self._note_crowd()
        return self._found.pop(bucket, {})

    def waits(self, bucket: str) -> bool:
        """Whether something of a bucket is not known yet."""
        return self._left[bucket] > 0

    def _note_crowd(self) -> None:
        if len(self._waiting) > self._room / 2:
            self._pressure.note_crowded()

    def _begin(self, now_ms: int) -> bool:
        """Have the next batch looked up, where something waits: those of the interactive lane first, each lane in the
        order in which they came."""
        for key in [key for key, asked in self._waiting.items() if asked.arrival.asker.expired(now_ms)]:
            self._tell(key, self._waiting.pop(key), Found())  # the desk refuses what is too late
        in_line = sorted(self._waiting, key=lambda key: self._waiting[key].arrival.asker.lane is Lane.BATCH)
        batch = {key: self._waiting.pop(key) for key in in_line[: self._most]}
        if not batch:
            return False
        arrivals = {key: asked.arrival for key, asked in batch.items()}
        if self._pool is None:
            told: Future[dict[str, Found]] = Future()
            told.set_result(self._look_up(arrivals, now_ms))
        else:
            told = self._pool.submit(self._look_up, arrivals, now_ms)
        self._begun[told] = batch
        return True

    def _keep(self, told: Future[dict[str, Found]]) -> None:
        found = told.result()
        for key, asked in self._begun.pop(told).items():
            self._tell(key, asked, found[key])

    def _tell(self, key: str, asked: _Asked, found: Found) -> None:
        self._left[asked.bucket] -= 1
        self._found.setdefault(asked.bucket, {})[key] = found

    def _look_up(self, arrivals: Mapping[str, Arrival], now_ms: int) -> dict[str, Found]:
        """What is known of each. On a defect nothing is: all are generated, as while a store is away."""
        try:
            found = self._semantic.find(list(arrivals.values()), now_ms)
        except Exception:
            logger.exception("%d requests are not answered by meaning, on a defect", len(arrivals))
            found = [Found(keep=arrival.question is None) for arrival in arrivals.values()]
        return dict(zip(arrivals, found, strict=True))
