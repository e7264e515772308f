"""What both caches and the desk hold at one moment of a simulation, and what they give."""

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from forebay_jobs.caches.answers import REFRESH_S
from forebay_jobs.reuse.lifetime import is_fresh, shorter_s
from forebay_jobs.reuse.neighbourhood import NEAREST
from forebay_schemas.records import CacheStatus

from .decisions import Terms
from .traffic import UNKNOWN, Near


class Kept(NamedTuple):
    """An answer in the exact cache.

    Attributes:
        row: of the request for which it was generated.
        until_ms: when the store drops it.
        own_s: that request's own limit on its age.
        tier: who answered, as its place in the configuration.
        lives: the share of its time that it lives.
    """

    row: int
    created_ms: int
    until_ms: int
    own_s: int | None
    tier: int
    lives: float


class Known(NamedTuple):
    """A near question whose answer may be given, and the row for which that was generated."""

    question: int
    cosine: float
    row: int


class Caches:
    """Answers by question, the index of questions, and the generations in flight.

    Args:
        most: answers that the store has room for; the least recently used are dropped. None: any number.
        lives: of each question, the share of its time that an answer to it lives.
    """

    def __init__(self, most: int | None, lives: Sequence[float]) -> None:
        self._most = most
        self._lives = lives
        self._refreshed_ms: dict[int, int] = {}  # until when nobody else has an answer generated anew
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

    def land(self, now_ms: int) -> Iterator[tuple[int, int, int]]:
        """End the generations whose time has come; of those whose answers are kept row, question and time."""
        landings = self._landings
        while landings and landings[0][0] <= now_ms:
            ends_ms, row, question, tier, terms, complete = heapq.heappop(landings)
            self.lands_ms = landings[0][0] if landings else math.inf
            flight = question, terms.flight
            if self._flights.get(flight) == row:
                del self._flights[flight]
            if terms.keeps and complete:
                self.keep(question, row, ends_ms, tier, terms)
                yield row, question, ends_ms

    def keep(self, question: int, row: int, created_ms: int, tier: int, terms: Terms) -> None:
        """Put an answer in the store, and its question into the index."""
        lives = self._lives[question]
        until_ms = created_ms + max(1, round(terms.kept_s * 1000 * lives))
        self._kept.pop(question, None)
        self._kept[question] = Kept(row, created_ms, until_ms, terms.own_s, tier, lives)
        if terms.learns:
            self._indexed.add(question)
        if self._most is not None:
            heapq.heappush(self._ends, (until_ms, question))
            self._make_room(created_ms, self._most)

    def refreshes(self, question: int, now_ms: int, terms: Terms) -> bool:
        """Whether a request has the answer that it could be given generated anew: it is old, and nobody else has."""
        kept = self._kept.get(question) if terms.fresh_s is not None else None
        if (
            kept is None
            or terms.fresh_s is None
            or kept.until_ms <= now_ms
            or not _may_be_given(kept, now_ms, terms.exact_s, terms)
            or _is_fresh(kept, now_ms, terms.fresh_s)
            or now_ms < self._refreshed_ms.get(question, now_ms)
        ):
            return False
        self._refreshed_ms[question] = now_ms + REFRESH_S * 1000
        return True

    def equal(self, question: int, now_ms: int, terms: Terms, refresh: bool) -> tuple[CacheStatus, int] | None:
        """How a request is given the answer to an equal one, and the row for which that was, or is being, generated.

        Args:
            refresh: whether it is not to be one that is kept.
        """
        kept = self._touched(question, now_ms)
        if kept is not None and not refresh and _may_be_given(kept, now_ms, terms.exact_s, terms):
            return CacheStatus.EXACT, kept.row
        for flight in terms.joins:
            leader = self._flights.get((question, flight))
            if leader is not None:
                return CacheStatus.JOINED, leader
        return None

    def known(self, question: int, near: Sequence[Near], least: float, now_ms: int, terms: Terms) -> list[Known]:
        """The nearest questions of an equal context whose answers may be given, the nearest first.

        As the job looks: of the ``NEAREST`` that are indexed, the question itself among them, those whose answer is
        gone are forgotten, and the question's own is what the exact cache did not give.

        Args:
            near: the questions near it, the nearest first; ``UNKNOWN`` is always there.
            least: cosine below which none is looked at.
        """
        found: list[Known] = []
        looked = 1 if question in self._indexed else 0
        if looked and self._touched(question, now_ms) is None:
            self._indexed.discard(question)
        for each in near:
            if looked == NEAREST or each.cosine < least:
                break
            if each.question == UNKNOWN:
                found.append(Known(UNKNOWN, each.cosine, UNKNOWN))
            elif each.question in self._indexed:
                looked += 1
                kept = self._touched(each.question, now_ms)
                if kept is None:
                    self._indexed.discard(each.question)
                elif _may_be_given(kept, now_ms, terms.semantic_s, terms):
                    found.append(Known(each.question, each.cosine, kept.row))
        return found

    def use(self, question: int, now_ms: int) -> None:
        """What is kept of a question is looked at."""
        self._touched(question, now_ms)

    def row_of(self, question: int, now_ms: int) -> int | None:
        """The row whose answer is kept for a question."""
        kept = self._kept.get(question)
        return kept.row if kept is not None and kept.until_ms > now_ms else None

    def _make_room(self, now_ms: int, most: int) -> None:
        while self._ends and self._ends[0][0] <= now_ms:
            _, question = heapq.heappop(self._ends)
            kept = self._kept.get(question)
            if kept is not None and kept.until_ms <= now_ms:  # else it was kept anew meanwhile
                del self._kept[question]
        if len(self._kept) > most:
            del self._kept[next(iter(self._kept))]

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
    return _is_fresh(kept, now_ms, ttl_s) and terms.within[kept.tier]


def _is_fresh(kept: Kept, now_ms: int, ttl_s: int) -> bool:
    return is_fresh(kept.created_ms, now_ms, shorter_s(ttl_s, kept.own_s) * kept.lives)
