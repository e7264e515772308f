"""Reads labelled lines: split into two halves by a hash, one to choose settings on and one to report on."""

import hashlib
from typing import Any

from forebay_schemas.errors import ErrorCode, RecordError


def is_test(text: str) -> bool:
    """Whether what belongs to this text is in the half that is reported on; the other half is for choosing."""
    return bool(hashlib.sha256(text.encode()).digest()[0] & 1)


def text_field(values: dict[str, Any], name: str, mend: str) -> str:
    """A text of a line.

    Raises:
        RecordError: it is absent, empty or no text.
    """
    value = values.get(name)
    if not isinstance(value, str) or not value.strip():
        raise RecordError(ErrorCode.INVALID_REQUEST, f"is absent or no text; {mend}", name)
    return value
