"""The policies that are compared, as players: a fixed threshold, and reuse within a bound."""

import time
from collections.abc import Sequence

import numpy as np
from forebay_jobs.reuse.bounded import BoundedReuse
from forebay_jobs.reuse.decision import Decision
from forebay_jobs.reuse.estimator import Prior
from forebay_jobs.reuse.neighbourhood import Candidate

from .playing import Equality, Near, Order, Played
from .streams import Stream

THRESHOLDS = tuple(
    float(threshold) for threshold in np.round(np.append(np.arange(0.60, 0.90, 0.01), np.arange(0.90, 1.0, 0.001)), 3)
)
"""Among which the best with hindsight is looked for; finer where a hundredth halves the errors."""


class Entries:
    """What the index would tell of each cached question: its answer group, and how its answer was judged."""

    def __init__(self, stream: Stream) -> None:
        self._texts = stream.texts
        self._group = [str(place) for place in range(len(stream))]
        self._right = [0] * len(stream)
        self._wrong = [0] * len(stream)

    def candidates(self, near: Sequence[Near]) -> list[Candidate]:
        """The cached questions near one that is asked."""
        return [
            Candidate(
                question=self._texts[one.place],
                similarity=one.similarity,
                group=self._group[one.place],
                right=self._right[one.place],
                wrong=self._wrong[one.place],
            )
            for one in near
        ]

    def judged(self, place: int, entry: int, right: bool) -> None:
        """The answer to ``entry`` would have been right for ``place``, or not."""
        if right:
            self._right[entry] += 1
            self._group[place] = self._group[entry]
        else:
            self._wrong[entry] += 1


class BoundedPlayer:
    """`forebay_jobs.reuse.bounded`, with an index that is a few lists.

    Attributes:
        seconds: of the processor that its decisions took.
    """

    keeps_all = True

    def __init__(self, stream: Stream, delta: float, prior: Prior, seed: int) -> None:
        self._texts = stream.texts
        self._entries = Entries(stream)
        self._policy = BoundedReuse(delta, prior)
        self._seed = seed
        self._asked: dict[int, tuple[Decision, int]] = {}
        self.seconds = 0.0

    def ask(self, place: int, near: Sequence[Near]) -> bool:
        candidates = self._entries.candidates(near)
        started = time.thread_time()
        decision = self._policy.decide(f"{self._seed}-{place}", self._texts[place], candidates)
        self.seconds += time.thread_time() - started
        if not decision.reused and near:
            self._asked[place] = decision, near[0].place
        return decision.reused

    def label(self, place: int, right: bool) -> bool:
        decision, entry = self._asked.pop(place)
        if decision.wrong is None:
            return False
        self._entries.judged(place, entry, right)
        self._policy.learn(decision, right)
        return True


class FixedThresholds:
    """Plays one order of a stream to fixed thresholds; it needs no labels, so looks at what is near only."""

    def __init__(self, stream: Stream, order: Order, equality: Equality) -> None:
        step_of = np.empty(len(order), dtype=np.int64)
        step_of[order] = np.arange(len(order))
        earlier = (step_of[stream.near] < step_of[:, None]) & (stream.similarities >= THRESHOLDS[0])
        rows, columns = np.nonzero(earlier[order])
        self._starts = np.searchsorted(rows, np.arange(len(order) + 1))
        questions = order[rows]
        self._entries = step_of[stream.near[questions, columns]].tolist()
        self._similarities = stream.similarities[questions, columns].tolist()
        firsts = np.minimum(self._starts[:-1], max(0, len(rows) - 1))
        none = self._starts[:-1] == self._starts[1:]
        self._nearest = np.where(none, -1.0, np.array(self._similarities or [-1.0])[firsts])
        self._order = order.tolist()
        self._equality = equality

    def play(self, threshold: float) -> Played:
        """Reuse whatever is at least so near."""
        count = len(self._order)
        reused, wrong = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
        cached = [True] * count
        for step in np.flatnonzero(self._nearest >= threshold).tolist():
            for place in range(self._starts[step], self._starts[step + 1]):
                if self._similarities[place] < threshold:
                    break
                entry = self._entries[place]
                if cached[entry]:
                    reused[step] = True
                    wrong[step] = not self._equality.right(step, self._order[step], self._order[entry])
                    cached[step] = False
                    break
        return Played(reused, wrong, 0)

    def all(self) -> dict[float, Played]:
        """Every one of ``THRESHOLDS``."""
        return {threshold: self.play(threshold) for threshold in THRESHOLDS}


def best_within(played: dict[float, Played], delta: float) -> float:
    """The threshold with most hits among those whose errors are within delta: what only hindsight can pick.

    Where none is within, the strictest.
    """
    within = [threshold for threshold, one in played.items() if one.errors <= delta]
    return max(within, key=lambda threshold: played[threshold].hits, default=THRESHOLDS[-1])
