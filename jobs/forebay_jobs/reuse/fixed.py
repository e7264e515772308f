"""Reuse from a fixed similarity on."""

from collections.abc import Sequence

from .decision import Decision, Verdict
from .neighbourhood import Candidate

FIXED = "fixed"


class FixedReuse:
    """Reuses whatever is at least so similar; it learns nothing.

    Args:
        threshold: least cosine, in [-1, 1].
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    @property
    def least(self) -> float:
        """See ``Policy.least``."""
        return self._threshold

    def decide(self, request_id: str, question: str, candidates: Sequence[Candidate]) -> Decision:
        """See ``Policy.decide``."""
        return decided_by(FIXED, self._threshold, candidates)

    def joined(self, decision: Decision, count: int) -> None:
        """Nothing is charged."""

    def worth(self, decision: Decision) -> float:
        """Nothing."""
        return 0.0

    def learn(self, decision: Decision, right: bool, share: float = 1.0) -> None:
        """Nothing is learned."""

    def take(self) -> None:
        """There is nothing to share."""

    def settle(self, shared: bytes | None) -> None:
        """There is nothing to follow."""


def decided_by(policy: str, threshold: float, candidates: Sequence[Candidate]) -> Decision:
    """The decision of a policy that goes by similarity alone."""
    if not candidates:
        return Decision(verdict=Verdict.NOTHING_NEAR, policy=policy, threshold=threshold)
    similarity = candidates[0].similarity
    verdict = Verdict.REUSED if similarity >= threshold else Verdict.TOO_FAR
    return Decision(verdict=verdict, policy=policy, similarity=similarity, threshold=threshold)
