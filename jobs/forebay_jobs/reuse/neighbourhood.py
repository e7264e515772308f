"""What is known about answering a question from the cache: the pair of questions, and what lies around them."""

import math
from collections.abc import Sequence

import msgspec

from . import pair_features as pairs

NEAREST = 5
"""How many candidates a lookup asks for."""
LEAST_SIMILARITY = 0.7
"""Below it a neighbour is none: such pairs are many, are never cheap enough, and would bend the line that has to be
right at the near end."""
_PER_UNIT = 10.0
"""Gaps between cosines are a tenth wide; the other features are about 1."""

FEATURES = (
    *pairs.FEATURES,
    "in_group",
    "out_of_group",
    "lead_on_rivals",
    "lead_on_group",
    "was_right",
    "was_wrong",
)
"""Names of the vector's places, in order."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A cached question near the one that is asked, as its entry in the index tells."""

    question: str
    similarity: float
    """Cosine, in [-1, 1]."""
    group: str
    """Entries of one group have equal answers: an answer that was judged equal to that of its neighbour joined the
    neighbour's group, any other began one of its own."""
    right: int = 0
    """How often this entry's answer was judged right for a question to which it was the nearest."""
    wrong: int = 0
    """How often it was judged wrong."""


def features(question: str, candidates: Sequence[Candidate]) -> list[float] | None:
    """The vector of ``FEATURES`` for giving the first candidate's answer; None where nothing is near.

    Args:
        question: as it is asked now.
        candidates: the nearest, by falling similarity; those beyond ``NEAREST`` are not looked at.
    """
    near = [one for one in candidates[:NEAREST] if one.similarity >= LEAST_SIMILARITY]
    if not near:
        return None
    first, others = near[0], near[1:]
    allies = [one.similarity for one in others if one.group == first.group]
    rivals = [one.similarity for one in others if one.group != first.group]
    return [
        *pairs.pair_features(question, first.question, first.similarity),
        float(len(allies)),
        float(len(rivals)),
        _PER_UNIT * (first.similarity - max(rivals, default=LEAST_SIMILARITY)),
        _PER_UNIT * (first.similarity - max(allies, default=LEAST_SIMILARITY)),
        math.log1p(first.right),
        math.log1p(first.wrong),
    ]
