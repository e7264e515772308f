"""The first look at a file: what it is, how many rows it has, and that each has a name of its own."""

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
from forebay_schemas.errors import ForebayError

from .errors import RepeatedName
from .options import HASH
from .rows import Source

_TOLD_EVERY = 10_000


class Survey(msgspec.Struct, frozen=True):
    """What a file is.

    Attributes:
        digest: SHA-256 of its bytes, in hex.
        rows: how many it has.
    """

    digest: str
    rows: int


def survey(file: Path, source: Source, told: Callable[[int], object]) -> Survey:
    """Look through a file, in bounded memory.

    Args:
        told: of the rows that were looked at, now and then.

    Raises:
        RepeatedName: two rows have one name.
        ForebayError: it cannot be read, or has no rows.
    """
    digest = digest_of(file)
    rows = 0
    with closing(sqlite3.connect("")) as names:  # a file of SQLite's own, as soon as it is large
        names.execute("CREATE TABLE names (name TEXT PRIMARY KEY, place TEXT NOT NULL) WITHOUT ROWID")
        for rows, (place, name) in enumerate(source.names(), start=1):
            if name is not None:
                _note(names, name, place)
            if rows % _TOLD_EVERY == 0:
                told(rows)
    if not rows:
        raise ForebayError(f"{file}: has no rows")
    return Survey(digest, rows)


def digest_of(file: Path) -> str:
    """SHA-256 of a file, in hex.

    Raises:
        ForebayError: it cannot be read.
    """
    try:
        with file.open("rb") as data:
            return hashlib.file_digest(data, HASH).hexdigest()
    except OSError as error:
        raise ForebayError(f"{file}: cannot be read ({error.strerror})") from None


def _note(names: sqlite3.Connection, name: str, place: str) -> None:
    try:
        names.execute("INSERT INTO names VALUES (?, ?)", (name, place))
    except sqlite3.IntegrityError:
        ((first,),) = names.execute("SELECT place FROM names WHERE name = ?", (name,))
        raise RepeatedName(name, first, place) from None
