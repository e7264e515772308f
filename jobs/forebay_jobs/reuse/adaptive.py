"""Reuse from a similarity on that begins strict and follows how good the answers just beside it are."""

from collections.abc import Sequence

from forebay_schemas.categories import AdaptiveConfig

from .decision import Decision
from .fixed import decided_by
from .learned import Learned
from .neighbourhood import Candidate

ADAPTIVE = "adaptive"
_BESIDE = 0.02
"""How far below the threshold a label still tells about it; a hit's label always does."""
_STEP = 0.002
"""How far a wrong answer moves it, as a share of all that is moved: 50 labels cross a hundredth."""
_OFFSET = slice(0, 1)


class AdaptiveReuse:
    """One threshold, moved label by label to where a set share of the answers at it would be right.

    A wrong answer moves it up by much and a right one down by little, so that it comes to rest where the two cancel out
    (stochastic approximation of a quantile: Robbins & Monro, 1951). What is generated just below the threshold is free
    of selection and moves it both ways; of what was reused only feedback tells, which moves it up.

    No error is bounded by that: how many answers are wrong above the threshold depends on the stream.
    """

    def __init__(self, settings: AdaptiveConfig) -> None:
        self._settings = settings
        self._moved = Learned(size=1)

    @property
    def least(self) -> float:
        """See ``Policy.least``: those just below the threshold teach."""
        return self.threshold - _BESIDE

    def decide(self, request_id: str, question: str, candidates: Sequence[Candidate]) -> Decision:
        """See ``Policy.decide``."""
        return decided_by(ADAPTIVE, self.threshold, candidates)

    def joined(self, decision: Decision, count: int) -> None:
        """Nothing is charged."""

    def worth(self, decision: Decision) -> float:
        """See ``Policy.worth``."""
        return float(decision.similarity is not None and decision.similarity >= self.least)

    def learn(self, decision: Decision, right: bool, share: float = 1.0) -> None:
        """Move the threshold, where the label is about an answer beside it or above."""
        threshold = self.threshold
        if decision.similarity is None or decision.similarity < self.least:
            return
        step = -_STEP * (1.0 - self._settings.precision) if right else _STEP * self._settings.precision
        within = min(max(threshold + step, self._settings.least), self._settings.most)
        self._moved.add(_OFFSET, within - threshold)

    def take(self) -> tuple[bytes, bytes]:
        """How far the threshold was moved; see ``Learned.take``."""
        return self._moved.take()

    def settle(self, shared: bytes | None) -> None:
        """See ``Learned.settle``."""
        self._moved.settle(shared)

    @property
    def threshold(self) -> float:
        """Least cosine at which an answer is reused; within the bounds also after many processes moved it."""
        moved = self._settings.start + self._moved.number(_OFFSET)
        return min(max(moved, self._settings.least), self._settings.most)
