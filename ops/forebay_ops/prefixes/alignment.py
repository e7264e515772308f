"""Where texts that are mostly equal differ: found by aligning each with the first of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

Text = Sequence[str]
"""A text as its atoms."""

_LEAST_OVERLAP = 0.6
_LEAST_COMMON_WORDS = 8
"""Texts are one prompt when so much of them is equal, or so many of their first words."""
_MOST_ALIGNED = 400
"""Aligning takes the square of the length; what lies between an equal beginning and an equal end is mostly short."""
_FEW_WORDS = 40
"""Longer texts have words in common that mean nothing."""
_MOST_COMPARED = 50
"""Prompts with which a text is compared; a call site with more of them has no prompt of its own."""
_GLUE = 2
"""Differences with fewer equal atoms between them, such as the space in a name, are one."""


@dataclass(frozen=True, slots=True)
class Place:
    """A part that differs: the atoms ``start`` to ``end`` of the first text, and what each text has there."""

    start: int
    end: int
    values: list[str]


def clusters(texts: Sequence[Text]) -> list[list[int]]:
    """Which texts are one prompt, by their indexes: each belongs to the first that it is mostly equal to."""
    found: list[tuple[Text, Counter[str], list[int]]] = []
    for index, text in enumerate(texts):
        words = Counter(atom for atom in text if not atom.isspace())
        for first, its_words, members in found[:_MOST_COMPARED]:
            if _alike(text, words, first, its_words):
                members.append(index)
                break
        else:
            found.append((text, words, [index]))
    return [members for _, _, members in found]


def differing_places(texts: Sequence[Text]) -> list[Place]:
    """Where the texts differ from the first, in its order."""
    first = texts[0]
    edits = [_edits(first, text) for text in texts]
    ranges = _united([(start, end) for edit in edits for start, end, _, _ in edit])
    return [
        Place(start, end, [_value(text, edit, start, end) for text, edit in zip(texts, edits, strict=True)])
        for start, end in ranges
    ]


_Edit = tuple[int, int, int, int]
"""Atoms of the first text, from and to, and those of the other that stand in their place."""


def _alike(one: Text, words: Counter[str], other: Text, other_words: Counter[str]) -> bool:
    common = 2 * (words & other_words).total()
    if common >= _LEAST_OVERLAP * (words.total() + other_words.total()):
        return True
    return _words(one[: _equal_at_start(one, other)]) >= _LEAST_COMMON_WORDS


def _edits(first: Text, other: Text) -> list[_Edit]:
    head = _equal_at_start(first, other)
    tail = _equal_at_start(first[head:][::-1], other[head:][::-1])
    left, right = first[head : len(first) - tail], other[head : len(other) - tail]
    whole = [(head, head + len(left), head, head + len(right))] if left or right else []
    if max(len(left), len(right)) > _MOST_ALIGNED:
        return whole
    codes = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    equal = sum(_words(left[a:b]) for tag, a, b, _, _ in codes if tag == "equal")
    total = _words(left) + _words(right)
    if total > _FEW_WORDS and 2 * equal < _LEAST_OVERLAP * total:
        return whole
    return [(head + a, head + b, head + c, head + d) for tag, a, b, c, d in codes if tag != "equal"]


def _words(text: Text) -> int:
    return sum(not atom.isspace() for atom in text)


def _equal_at_start(one: Text, other: Text) -> int:
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))


def _united(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    united: list[tuple[int, int]] = []
    for start, end in sorted(set(ranges)):
        if united and start < united[-1][1] + _GLUE:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return united


def _value(text: Text, edits: Sequence[_Edit], start: int, end: int) -> str:
    """What a text has where the first one has ``start`` to ``end``: its edits lie inside, or well outside."""
    shift = sum((d - c) - (b - a) for a, b, c, d in edits if b < start)
    grown = sum((d - c) - (b - a) for a, b, c, d in edits if start <= a and b <= end)
    return "".join(text[start + shift : end + shift + grown])
