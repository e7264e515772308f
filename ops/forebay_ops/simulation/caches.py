"""What both caches and the desk hold at one moment of a simulation, and what they give."""

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

from forebay_jobs.reuse.lifetime import is_fresh, shorter_s
from forebay_jobs.reuse.neighbourhood import NEAREST
from forebay_schemas.records import CacheStatus

from .decisions import Terms
from .traffic import UNKNOWN


class Kept(NamedTuple):
    """An answer in the exact cache.

    Attributes:
        row: of the request for which it was generated.
        until_ms: when the store drops it.
        own_s: that request's own limit on its age.
        tier: who answered, as its place in the configuration.
    """

    row: int
    created_ms: int
    until_ms: int
    own_s: int | None
    tier: int


class Caches:
    """Answers by question, the index of questions, and the generations in flight.

    Args:
        most: answers that the store has room for; the least recently used are dropped. None: any number.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._kept: dict[int, Kept] = {}  # with a bound, the least recently used first
        self._indexed: set[int] = set()
        self._flights: dict[tuple[int, object], int] = {}
        self._ends: list[tuple[int, int]] = []  # with a bound, when answers are dropped
        self._landings: list[tuple[int, int, int, int, Terms, bool]] = []
        self.lands_ms = math.inf
        """When the next generation ends."""

    def lead(self, row: int, question: int, ends_ms: int, tier: int, terms: Terms, complete: bool) -> None:
        """Begin a generation."""
        if terms.reads:
            self._flights[question, terms.flight] = row
        heapq.heappush(self._landings, (ends_ms, row, question, tier, terms, complete))
        self.lands_ms = self._landings[0][0]

    def land(self, now_ms: int) -> None:
        """End the generations whose time has come, and keep their answers."""
        landings = self._landings
        while landings and landings[0][0] <= now_ms:
            ends_ms, row, question, tier, terms, complete = heapq.heappop(landings)
            flight = question, terms.flight
            if self._flights.get(flight) == row:
                del self._flights[flight]
            if terms.keeps and complete:
                self.keep(question, row, ends_ms, tier, terms)
        self.lands_ms = landings[0][0] if landings else math.inf

    def keep(self, question: int, row: int, created_ms: int, tier: int, terms: Terms) -> None:
        """Put an answer in the store, and its question into the index."""
        until_ms = created_ms + terms.kept_s * 1000
        self._kept.pop(question, None)
        self._kept[question] = Kept(row, created_ms, until_ms, terms.own_s, tier)
        if terms.learns:
            self._indexed.add(question)
        if self._most is not None:
            heapq.heappush(self._ends, (until_ms, question))
            self._make_room(created_ms, self._most)

    def answer(self, question: int, near: Sequence[int], now_ms: int, terms: Terms) -> tuple[CacheStatus, int] | None:
        """How a request is answered without a generation of its own, and the row whose answer it is given.

        Args:
            near: questions of an equal context that are near enough, the nearest first; ``UNKNOWN`` is always there,
                and so is the row then.
        """
        kept = self._touched(question, now_ms)
        if kept is not None and _may_be_given(kept, now_ms, terms.exact_s, terms):
            return CacheStatus.EXACT, kept.row
        for flight in terms.joins:
            leader = self._flights.get((question, flight))
            if leader is not None:
                return CacheStatus.JOINED, leader
        if not terms.by_meaning:
            return None
        row = self._nearest_that_may_be_given(question, near, now_ms, terms)
        return None if row is None else (CacheStatus.SEMANTIC, row)

    def _nearest_that_may_be_given(self, question: int, near: Sequence[int], now_ms: int, terms: Terms) -> int | None:
        """Its row. The index names so many, among them the question itself; what is gone leaves the index."""
        given: int | None = None
        named = 0
        if question in self._indexed:
            named += 1
            if question not in self._kept:
                self._indexed.discard(question)
        for one in filter(self._is_there, near):
            named += 1
            if named > NEAREST:
                break
            if one == UNKNOWN:
                return UNKNOWN if given is None else given
            kept = self._touched(one, now_ms)
            if kept is None:
                self._indexed.discard(one)
            elif given is None and _may_be_given(kept, now_ms, terms.semantic_s, terms):
                given = kept.row
        return given

    def _make_room(self, now_ms: int, most: int) -> None:
        while self._ends and self._ends[0][0] <= now_ms:
            _, question = heapq.heappop(self._ends)
            kept = self._kept.get(question)
            if kept is not None and kept.until_ms <= now_ms:  # else it was kept anew meanwhile
                del self._kept[question]
        if len(self._kept) > most:
            del self._kept[next(iter(self._kept))]

    def _is_there(self, question: int) -> bool:
        return question in self._indexed or question == UNKNOWN

    def _touched(self, question: int, now_ms: int) -> Kept | None:
        """What is kept of a question, which makes it the most recently used."""
        kept = self._kept.get(question)
        if kept is None:
            return None
        if kept.until_ms <= now_ms:
            del self._kept[question]
            return None
        if self._most is not None:
            del self._kept[question]
            self._kept[question] = kept
        return kept


def _may_be_given(kept: Kept, now_ms: int, ttl_s: int, terms: Terms) -> bool:
    return is_fresh(kept.created_ms, now_ms, shorter_s(ttl_s, kept.own_s)) and terms.within[kept.tier]
