"""Details by which two answers contradict each other however near their embeddings are."""

import re

from forebay_jobs.reuse.pair_features import opposed, words_in

from .quantities import conflicting

SHORT_CHARS = 200
"""Up to this length an answer is one statement, so that a `not` or an `enable` in it is about all of it."""
_YES = re.compile(r"\W*(?:yes|yeah|yep|correct|certainly|absolutely|of course|true|right)\b", re.IGNORECASE)
_NO = re.compile(r"\W*(?:no|nope|incorrect|false|wrong|not at all)\b", re.IGNORECASE)


def contradict(one: str, other: str) -> bool:
    """Whether the answers begin with yes and no, differ in a quantity, or, if short, in negation or by opposites."""
    if (_YES.match(one) and _NO.match(other)) or (_NO.match(one) and _YES.match(other)):
        return True
    if conflicting(one, other):
        return True
    if max(len(one), len(other)) > SHORT_CHARS:
        return False
    left, right = words_in(one), words_in(other)
    return left.negations % 2 != right.negations % 2 or opposed(left, right)
