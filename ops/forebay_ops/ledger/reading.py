"""Reading a ledger while its process writes, compacts and forgets."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa
from forebay_schemas.errors import ForebayError

_ATTEMPTS = 5
_PAUSE_S = 0.2
"""Between attempts: a process that forgets somebody replaces file after file."""

_UNREADABLE = (FileNotFoundError, duckdb.IOException, duckdb.InvalidInputException, pa.ArrowInvalid)
"""What is not there, and what is no Parquet."""

_T = TypeVar("_T")


def undisturbed(root: Path, read: Callable[[], _T]) -> _T:
    """What is read of a ledger: its files are listed and read anew where its process took one away meanwhile.

    Raises:
        ForebayError: files cannot be read, however often.
    """
    problem = None
    for attempt in range(_ATTEMPTS):
        time.sleep(_PAUSE_S if attempt else 0)
        try:
            return read()
        except _UNREADABLE as error:
            problem = error
    raise ForebayError(f"the ledger in {root} cannot be read ({problem}); look at its files and ask again")
