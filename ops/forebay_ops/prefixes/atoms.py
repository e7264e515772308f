"""A text in pieces that are compared as a whole, and what kind of thing changes where some of them do."""

import re
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"
_WEEKDAY = r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?"
_DATE = (
    r"(?:\d{4}-\d\d-\d\d|\d{4}/\d\d/\d\d|\d{1,2}/\d{1,2}/\d{2,4}|\d{1,2}\.\d{1,2}\.\d{4}"
    rf"|(?:{_WEEKDAY},? )?(?:{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}|\d{{1,2}}\.? {_MONTH} \d{{4}})|{_WEEKDAY})"
)
_TIME = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\b\.?)?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)\b)?"
_TIMESTAMP = rf"{_DATE}(?:[T ]|, ?| at ){_TIME}"
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_EPOCH = r"1\d{9}(?:\d{3}){0,3}(?:\.\d+)?"
"""Seconds, milliseconds, micro- or nanoseconds, from 2001 to 2033."""
_ID = r"(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{8,}"

_ATOM = re.compile(
    rf"(?<![\w-])(?:{_TIMESTAMP}|{_DATE}|{_TIME}|{_UUID})(?![\w-])|[^\W_]+(?:[-_]+[^\W_]+)*|\s+|.", re.DOTALL
)
_NAMES_AN_ID = re.compile(
    r"\b(?:session|request|trace|conversation|thread|chat|correlation|transaction|run|span|ticket|order)"
    r"(?:[ _-]?(?:id|no|number))?[\"']?\s*(?:[:=#]|is)?\s*[\"']?$",
    re.IGNORECASE,
)


class Kind(StrEnum):
    """What changes."""

    TIMESTAMP = "timestamp"
    DATE = "date"
    TIME = "time"
    UUID = "UUID"
    EPOCH = "time since the epoch"
    ID = "session or request id"
    COUNTER = "counter"
    NUMBER = "number"
    TEXT = "text"

    @property
    def changes_by_nature(self) -> bool:
        """Whether two values are enough to say that there will be a third."""
        return self not in (Kind.NUMBER, Kind.TEXT)


_UNMISTAKABLE = {
    Kind.TIMESTAMP: re.compile(rf"(?<![\w-])(?:{_TIMESTAMP})(?![\w-])"),
    Kind.UUID: re.compile(rf"(?<![\w-])(?:{_UUID})(?![\w-])"),
    Kind.EPOCH: re.compile(rf"(?<![\w.-])(?:{_EPOCH})(?![\w-])"),
}
_DATES = {
    Kind.DATE: re.compile(rf"(?<![\w-])(?:{_DATE})(?![\w-])"),
    Kind.TIME: re.compile(rf"(?<![\w-])(?:{_TIME})(?![\w-])"),
}
_IDS = re.compile(_ID)


def atoms(text: str) -> list[str]:
    """The text in pieces: words, runs of space, marks; a date, a time or an id is one. Joined they are the text."""
    return _ATOM.findall(text)


def kind_of(values: Sequence[str], before: str) -> Kind:
    """What kind of thing takes these values.

    Args:
        values: at least two, distinct, in the order in which they came.
        before: the text in front of them.
    """
    for kind, pattern in (_UNMISTAKABLE | _DATES).items():
        if all(pattern.search(value) for value in values):
            return kind
    plain = [value.strip() for value in values]
    if all(_IDS.fullmatch(value) for value in plain) or (_NAMES_AN_ID.search(before) and all(map(_short, plain))):
        return Kind.ID
    if all(value.isdecimal() for value in plain):
        grows = len(plain) > 2 and all(int(one) < int(next_one) for one, next_one in pairwise(plain))
        return Kind.COUNTER if grows else Kind.NUMBER
    return Kind.TEXT


def unmistakable(text: str) -> tuple[Kind, int, str] | None:
    """The first thing in a text that surely differs from request to request: its kind, its place, its value."""
    found = [
        (match.start(), kind, match[0]) for kind, pattern in _UNMISTAKABLE.items() if (match := pattern.search(text))
    ]
    if not found:
        return None
    place, kind, value = min(found)
    return kind, place, value


def _short(value: str) -> bool:
    return len(value.split()) == 1
