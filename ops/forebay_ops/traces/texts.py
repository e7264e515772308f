"""Labelled texts, and the order in which a trace without texts asks them."""

import random
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, cycle
from typing import BinaryIO, TypeVar

from forebay_schemas.errors import ErrorCode, RecordError

from ..request_lines import LineError, numbered, parse_object, plain
from .arrivals import Arrival

_T = TypeVar("_T")
_TEXTS = ("text", "question")
_LABELS = ("label", "intent", "class")

_POPULARITY = 0.8
"""Exponent of Zipf's law. Breslau et al. (Web Caching and Zipf-like Distributions, INFOCOM 1999) find 0.64 to 0.83 in
what the users of six proxies ask for."""


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A question, and its label as in ``Arrival``."""

    text: str
    label: str


def read_texts(file: BinaryIO) -> list[LabelledText]:
    """The texts of a file of JSON lines, plain or gzip: ``text`` or ``question``, and ``label``, ``intent`` or
    ``class``.

    Raises:
        LineError: a line cannot be used.
    """
    return [_text(number, line) for number, line in numbered(plain(file))]


def _text(number: int, line: bytes) -> LabelledText:
    try:
        values = parse_object(line)
        text = next((values[name] for name in _TEXTS if name in values), None)
        label = next((values[name] for name in _LABELS if name in values), None)
        if not isinstance(text, str) or not text.strip():
            raise RecordError(ErrorCode.INVALID_REQUEST, "is absent or no text; give the question", _TEXTS[0])
        if not isinstance(label, str | int):
            raise RecordError(ErrorCode.INVALID_REQUEST, "is absent or no text; give what the question means", "label")
    except RecordError as error:
        raise LineError(number, error) from None
    return LabelledText(text, str(label))


def in_order(texts: Sequence[LabelledText]) -> Iterator[LabelledText]:
    """The texts as the file has them, without end: from the beginning again where the trace is longer."""
    return cycle(texts)


def drawn(texts: Sequence[LabelledText], seed: int) -> Iterator[LabelledText]:
    """Texts as the customers of a support desk ask them, without end.

    Some labels are asked more than others, and of a label some texts more than others, both by Zipf's law: a text comes
    again word for word, and a meaning comes again in other words. Which ones are popular, and the order, follow from
    the seed.
    """
    dice = random.Random(seed)
    by_label: dict[str, list[LabelledText]] = {}
    for each in dict.fromkeys(texts):
        by_label.setdefault(each.label, []).append(each)
    groups = list(by_label.values())
    for ranked in (groups, *groups):
        dice.shuffle(ranked)  # its order is its popularity from here on
    weights = list(accumulate(rank**-_POPULARITY for rank in range(1, 1 + max(map(len, (groups, *groups))))))
    while True:
        group = _pick(groups, weights, dice)
        yield _pick(group, weights, dice)


def _pick(ranked: Sequence[_T], weights: Sequence[float], dice: random.Random) -> _T:
    return ranked[bisect(weights, dice.random() * weights[len(ranked) - 1], hi=len(ranked) - 1)]


def with_texts(arrivals: Iterable[Arrival], texts: Iterator[LabelledText]) -> Iterator[Arrival]:
    """The arrivals, each with the next text as its question."""
    for arrival in arrivals:
        asked = next(texts)
        fields = {name: value for name, value in arrival.fields.items() if name != "messages"}
        yield replace(arrival, fields=fields | {"question": asked.text}, label=asked.label)
