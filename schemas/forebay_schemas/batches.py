"""Batches: what they are called, and how it is told from the id of a request which row of which batch it is."""

import re
from enum import StrEnum


class Stage(StrEnum):
    """How far the file of a batch is published."""

    SENDING = "sending"
    """A process publishes it, or did until it ended."""
    SENT = "sent"
    """All rows are published, or refused."""
    SAMPLED = "sampled"
    """The rows of a sample are; the others wait to be submitted."""
    CEILING = "ceiling"
    """The next row could have passed the price ceiling."""
    CANCELLED = "cancelled"
    """It was taken back."""


_BATCH = r"batch_[0-9a-f]{24}"
_ROW = re.compile(rf"({_BATCH})-([0-9]{{1,12}})", re.ASCII)
_BATCH_ID = re.compile(_BATCH, re.ASCII)


def batch_id(digest: str) -> str:
    """The id of a batch, of the hex digest of all that makes it what it is."""
    return f"batch_{digest[:24]}"


def is_batch(name: str) -> bool:
    """Whether this is the id of a batch."""
    return _BATCH_ID.fullmatch(name) is not None


def row_id(batch: str, row: int) -> str:
    """The id of the request that a row makes."""
    return f"{batch}-{row}"


def row_of(request_id: str) -> tuple[str, int] | None:
    """The batch and the row, from 1, of a request; None where it is of no batch."""
    found = _ROW.fullmatch(request_id)
    return (found[1], int(found[2])) if found else None
