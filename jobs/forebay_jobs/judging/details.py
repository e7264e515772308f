"""Details by which two answers contradict each other, or may, however near their embeddings are."""

import re
from enum import Enum, auto

from forebay_jobs.reuse.pair_features import opposed, words_in

from .quantities import conflicting
from .sentences import sentences

SHORT_CHARS = 200
"""Up to this length an answer is one statement, so that a number, a `not` or an `enable` in it is about all of it."""
_YES = re.compile(r"\W*(?:yes|yeah|yep|correct|certainly|absolutely|of course|true|right)\b", re.IGNORECASE)
_NO = re.compile(r"\W*(?:no|nope|incorrect|false|wrong|not at all)\b", re.IGNORECASE)


class Details(Enum):
    """What the details of two answers tell."""

    COMPATIBLE = auto()
    DOUBTFUL = auto()
    """They may well say the same, but must not be taken for equal because they sound alike."""
    CONTRADICTORY = auto()


def compare_details(one: str, other: str) -> Details:
    """Compare yes and no, quantities, negation, opposites, and which of the same words comes first.

    A long answer argues before it concludes, and two that conclude the same may calculate differently: there quantities
    contradict each other in the last sentence, and elsewhere are a doubt.
    """
    if (_YES.match(one) and _NO.match(other)) or (_NO.match(one) and _YES.match(other)):
        return Details.CONTRADICTORY
    if max(len(one), len(other)) > SHORT_CHARS:
        if conflicting(sentences(one)[-1], sentences(other)[-1]):
            return Details.CONTRADICTORY
        return Details.DOUBTFUL if conflicting(one, other) else Details.COMPATIBLE
    if conflicting(one, other):
        return Details.CONTRADICTORY
    left, right = words_in(one), words_in(other)
    negated = left.negations % 2 != right.negations % 2  # or "impossible" stands for "not possible"
    swapped = left.bag == right.bag and left.content != right.content  # or a list has another order
    return Details.DOUBTFUL if negated or swapped or opposed(left, right) else Details.COMPATIBLE
