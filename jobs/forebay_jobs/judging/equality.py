"""When two answers are the same but for what carries no meaning: text after normalisation, JSON by its values."""

import json
import re
import unicodedata
from decimal import Decimal
from difflib import SequenceMatcher
from typing import Any, NamedTuple

_TOKEN = re.compile(r"\w+|[^\w\s]")
_AROUND = " \t\n.,;:!?\"'`*()[]"
"""Marks around an answer that say nothing: `Paris`, "Paris." and **paris** are one answer."""
_FENCED = re.compile(r"\s*```\w*\n(.*)\n```\s*", re.DOTALL)


def normalise(text: str) -> str:
    """The text without what carries no meaning: Unicode form, case, spacing, and the marks around it."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return plain.strip(_AROUND) or plain


def equal_texts(one: str, other: str) -> bool:
    """Whether two answers are equal after normalisation."""
    return normalise(one) == normalise(other)


def equal_json(one: str, other: str) -> bool | None:
    """Whether two answers are equal as JSON; None where they are not both JSON.

    The order of keys, spacing, a code fence around it all and the notation of numbers (12, 12.0, 1.2e1) do not count.
    """
    left, right = _parsed(one), _parsed(other)
    if left is _NO_JSON or right is _NO_JSON:
        return None
    try:
        return left == right
    except RecursionError:
        return None


def token_agreement(one: str, other: str) -> float:
    """The share of tokens in common, in the same order: 2 x common / (one's + other's), in [0, 1].

    Tokens are words and single marks of the normalised texts, so that models with different tokenizers compare.
    """
    left, right = _TOKEN.findall(normalise(one)), _TOKEN.findall(normalise(other))
    return SequenceMatcher(None, left, right, autojunk=False).ratio()


class _Number(NamedTuple):
    """Apart from true and false, which to Python are 1 and 0, and exact: a double would make long ids equal."""

    value: Decimal


_NO_JSON = object()


def _parsed(text: str) -> Any:
    fenced = _FENCED.fullmatch(text)
    try:
        return json.loads(fenced[1] if fenced else text, parse_int=_number, parse_float=_number)
    except (ValueError, ArithmeticError, RecursionError):
        return _NO_JSON


def _number(written: str) -> _Number:
    return _Number(Decimal(written))
