"""Cuts an answer into sentences."""

import re

_END = re.compile(r"(?<=[.!?])\s+|\n+")


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, in order; at least one, which may be empty."""
    return _END.split(text.strip())
