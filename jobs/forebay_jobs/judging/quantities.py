"""The numbers, amounts, times and dates in an answer, however they are written: `two weeks` is `14 days`."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple


class Quantity(NamedTuple):
    """A number with what it counts.

    Attributes:
        dimension: of its unit; empty for a bare number.
        value: in the dimension's smallest unit.
        written: the number without its unit.
    """

    dimension: str
    value: Decimal
    written: Decimal


def conflicting(one: str, other: str) -> bool:
    """Whether each answer has a quantity that the other lacks; what only one of them mentions is no conflict.

    A bare number fits one of the same value with any unit.
    """
    left, right = set(quantities(one)), set(quantities(other))
    return bool(_missing(left, right)) and bool(_missing(right, left))


def quantities(text: str) -> Iterator[Quantity]:
    """Every quantity of a text, in order; the numbers of a list's items are none."""
    for found in _QUANTITY.finditer(_NUMERALS.sub(_as_digits, _ITEM.sub(" ", text.lower()))):
        if found["hour"]:
            noon = 12 if found["half"] == "p" else 0
            yield _clock(found["hour"], int(found["hour"]) % 12 + noon, found["minutes"])
        elif found["hour24"]:
            yield _clock(found["hour24"], int(found["hour24"]), found["minutes24"])
        elif found["year"]:
            yield from map(_bare, (found["year"], found["month_number"], found["day"]))
        elif month := found["month"] or found["month_of_day"]:
            yield _bare(str(_MONTHS.index(month[:3]) + 1))
            if found["day_of_month"]:
                yield _bare(found["day_of_month"])
        else:
            number = _value(found["number"]) * _SCALES.get(found["scale"], 1)
            if found["minus"]:
                number = -number
            dimension, factor = _UNITS.get(found["sign"] or found["unit"], ("", 1))
            yield Quantity(dimension, number * factor, number)


def _missing(these: set[Quantity], those: set[Quantity]) -> list[Quantity]:
    known = {(one.dimension, one.value) for one in those}
    bare = {one.written for one in those if not one.dimension}
    written = {one.written for one in those}
    return [
        one
        for one in these
        if (one.dimension, one.value) not in known
        and one.written not in bare
        and (one.dimension or one.written not in written)
    ]


def _clock(written: str, hour: int, minutes: str | None) -> Quantity:
    """A time of day in minutes; `from 9 to 5 pm` says the same as `9 am to 5 pm`."""
    return Quantity("clock", Decimal(hour * 60 + int(minutes or 0)), Decimal(written))


def _bare(number: str) -> Quantity:
    return Quantity("", Decimal(number), Decimal(number))


def _value(number: str) -> Decimal:
    """`1,000`, `3.50` and the `3,50` of the continent; of a version such as 1.2.3 all digits after the first point."""
    if _THOUSANDS.fullmatch(number):
        return Decimal(number.replace(",", ""))
    whole, _, rest = number.replace(",", ".").partition(".")
    return Decimal(f"{whole}.{rest.replace('.', '')}" if rest else whole)


def _as_digits(found: re.Match[str]) -> str:
    """`twenty-four` to 24, `two hundred` to 200; a lone `one` is mostly no number."""
    words = re.split(r"[\s-]+", found[0])
    if words == ["one"]:
        return found[0]
    total = current = 0
    for word in words:
        value = _NUMERAL_VALUES[word]
        if value < 100:
            current += value
        elif value == 100:
            current = max(current, 1) * 100
        else:
            total, current = total + max(current, 1) * value, 0
    return str(total + current)


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_BELOW_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMERAL_VALUES = {word: value for value, word in enumerate(_BELOW_TWENTY.split())}
_NUMERAL_VALUES |= {word: 10 * tens for tens, word in enumerate(_TENS.split(), start=2)}
_NUMERAL_VALUES |= {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_SCALES = {"k": 1_000, "thousand": 1_000, "million": 1_000_000, "bn": 1_000_000_000, "billion": 1_000_000_000}
_UNITS = {
    word: (dimension, factor)
    for dimension, units in {
        "time": {
            "second seconds sec secs s": 1,
            "minute minutes min mins": 60,
            "hour hours hr hrs h": 3_600,
            "day days": 86_400,
            "week weeks": 604_800,
        },
        "months": {"month months": 1, "year years": 12},
        "share": {"% percent": 1},
        "usd": {"$ usd dollar dollars": 1},
        "eur": {"€ eur euro euros": 1},
        "gbp": {"£ gbp": 1},
        "bytes": {"kb": 1, "mb": 1_000, "gb": 1_000_000, "tb": 1_000_000_000},
        "length": {"mm": 1, "cm": 10, "metre metres meter meters": 1_000, "km": 1_000_000},
        "mass": {"gram grams": 1, "kg": 1_000},
    }.items()
    for words, factor in units.items()
    for word in words.split()
}

_NUMERAL = "|".join(sorted(_NUMERAL_VALUES, key=len, reverse=True))
_NUMERALS = re.compile(rf"\b(?:{_NUMERAL})(?:[\s-]+(?:{_NUMERAL})){{0,9}}\b")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_ITEM = re.compile(r"^\s*\d{1,2}[.)]\s", re.MULTILINE)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_UNIT = "|".join(unit for unit in _UNITS if unit.isalpha())
_QUANTITY = re.compile(
    rf"""
    \b(?P<hour>\d{{1,2}})(?:[:.](?P<minutes>\d{{2}}))?\s*(?P<half>[ap])\.?m\b
    | \b(?P<hour24>\d{{1,2}}):(?P<minutes24>\d{{2}})\b
    | \b(?P<year>\d{{4}})-(?P<month_number>\d{{2}})-(?P<day>\d{{2}})\b
    | \b(?P<day_of_month>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month_of_day>{_MONTH})
    | \b(?P<month>{_MONTH}),?\s+(?=\d)
    | (?P<minus>(?<![\w)])-)?(?:(?P<sign>[$€£])\s?)?(?P<number>\d{{1,30}}(?:[.,]\d{{1,30}})*)
      (?:\s*(?P<scale>thousand|million|billion|bn|k)\b)?
      (?:[\s-]*(?:(?:business|working|calendar)\s+)?(?P<unit>[%$€£]|(?:{_UNIT})\b))?
    """,
    re.VERBOSE,
)
