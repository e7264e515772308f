"""What a policy decided about one request, and why; to be kept until it is known whether it was right."""

import enum
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

import msgspec

from .neighbourhood import Candidate


class Verdict(enum.StrEnum):
    """What becomes of a request, and why."""

    REUSED = "reused"
    AUDITED = "audited"
    """Would be reused, but is generated to check."""
    NOTHING_NEAR = "nothing_near"
    TOO_FAR = "too_far"
    """The similarity is below the threshold."""
    TOO_UNSURE = "too_unsure"
    """The chance of being wrong is above the price."""
    BUDGET_SPENT = "budget_spent"
    """It is not, but so much has not been granted yet."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the first candidate's answer is reused; to be kept until its label is known."""

    verdict: Verdict
    policy: str
    """As the configuration names it: ``fixed``, ``adaptive`` or ``bounded``."""
    similarity: float | None = None
    """Cosine to the first candidate, in [-1, 1]; None where nothing is near."""
    threshold: float | None = None
    """The least similarity at which an answer was reused at that time, where similarity decides."""
    wrong: float | None = None
    """The model's chance that the answer is wrong, in (0, 1), where that decides."""
    charge: float = 0.0
    """The same, corrected by audits: what reusing it is charged."""
    price: float = 0.0
    """The highest chance at which an answer was reused at that time."""
    vector: list[float] = []
    """Of ``neighbourhood.FEATURES``."""

    @property
    def reused(self) -> bool:
        return self.verdict is Verdict.REUSED


class Policy(Protocol):
    """Decides for one namespace in one process. Not to be shared between threads."""

    @property
    def least(self) -> float:
        """Least cosine of a candidate that it wants to know of."""
        ...

    def decide(self, request_id: str, question: str, candidates: Sequence[Candidate]) -> Decision:
        """Decide on one request; every request of the namespace has to pass here once.

        Args:
            request_id: decides where lots are drawn, so that a request meets the same fate when it is read again.
            candidates: the nearest cached questions whose answers may be given, by falling similarity; none is fine.
        """
        ...

    def joined(self, decision: Decision, count: int) -> None:
        """So many equal requests were given the reused answer too."""
        ...

    def worth(self, decision: Decision) -> float:
        """How much there is to learn from the label of a decision, in [0, 1]."""
        ...

    def learn(self, decision: Decision, right: bool, share: float = 1.0) -> None:
        """Take the label of a decision: whether the neighbour's answer was, or would have been, right.

        Args:
            share: the chance with which this label was taken among others like it, in (0, 1].
        """
        ...

    def take(self) -> tuple[bytes, bytes] | None:
        """See ``Learned.take``; None where nothing is ever learned."""
        ...

    def settle(self, shared: bytes | None) -> None:
        """See ``Learned.settle``."""
        ...


def lot(name: str, purpose: bytes) -> float:
    """A number in [0, 1) that a name alone determines, another for each purpose."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8, person=purpose).digest()) / 2**64
