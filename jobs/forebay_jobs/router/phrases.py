"""Counts phrases of several kinds in one pass over the words of a text."""

import re
from collections.abc import Mapping, Sequence

_HEAD = re.compile(r"\b\w{1,4}")


class Phrases:
    """Kinds of phrases, each phrase a regular expression.

    A search by one expression of all phrases tries them at every letter, and as many searches as there are kinds take
    milliseconds on a long text. Here a phrase is tried only at words that begin as it does.

    Args:
        kinds: the phrases by kind, in lower case. Each begins with four letters as they stand, or with a whole word
            that is shorter; it begins and ends at a word's border. Of those that fit at one place the first counts.
    """

    def __init__(self, kinds: Mapping[str, Sequence[str]]) -> None:
        self._kinds = tuple(kinds)
        heads: dict[str, dict[int, list[str]]] = {}
        for kind, phrases in enumerate(kinds.values()):
            for phrase in phrases:
                head = _HEAD.match(phrase)
                assert head is not None, f"{phrase} begins with no word"
                heads.setdefault(head[0], {}).setdefault(kind, []).append(phrase)
        self._tried = {
            head: [(kind, re.compile(rf"(?:{'|'.join(phrases)})\b").match) for kind, phrases in by_kind.items()]
            for head, by_kind in heads.items()
        }

    def counts(self, text: str) -> dict[str, int]:
        """How many phrases of each kind a text in lower case holds; those of one kind do not overlap."""
        counts, ends = [0] * len(self._kinds), [0] * len(self._kinds)
        for head in _HEAD.finditer(text):
            for kind, match in self._tried.get(head[0], ()):
                begin = head.start()
                if begin >= ends[kind] and (found := match(text, begin)):
                    counts[kind] += 1
                    ends[kind] = found.end()
        return dict(zip(self._kinds, counts, strict=True))
