"""When two answers say the same: normalised text, JSON by its values, and the share of tokens in common."""

import json
import re
import unicodedata
from difflib import SequenceMatcher

_TOKEN = re.compile(r"\w+|[^\w\s]")
_AROUND = " \t\n.,;:!?\"'`*()[]"
"""Marks around an answer that say nothing: `Paris`, "Paris." and **paris** are one answer."""


def normalise(text: str) -> str:
    """The text without what carries no meaning: Unicode form, case, spacing, and the marks around it."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return plain.strip(_AROUND) or plain


def agree(one: str, other: str, *, as_json: bool = False) -> bool:
    """Whether two answers are equal after normalisation.

    Args:
        as_json: compare the values where both are JSON: the order of keys and the spacing do not count.
    """
    if as_json:
        left, right = _parsed(one), _parsed(other)
        if left is not None and right is not None:
            # Written again, because to Python 1 equals true.
            return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    return normalise(one) == normalise(other)


def token_agreement(one: str, other: str) -> float:
    """The share of tokens in common, in the same order: 2 x common / (one's + other's), in [0, 1].

    Tokens are words and single marks of the normalised texts, so that models with different tokenizers compare.
    """
    left, right = _TOKEN.findall(normalise(one)), _TOKEN.findall(normalise(other))
    return SequenceMatcher(None, left, right, autojunk=False).ratio()


def _parsed(text: str) -> object | None:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
