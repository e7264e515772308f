"""What a run has had answered, on disk, so that the same command goes on where it was stopped."""

import time
from pathlib import Path
from typing import Self

import msgspec
from forebay_schemas.errors import ForebayError


class _Line(msgspec.Struct):
    """An answer: what it is to, until when it may be given again, and whether it was generated for the sake of it."""

    key: str
    until_s: int
    refreshed: bool


class Journal:
    """A file with a line of JSON for each answer, without any text; it is there only while a run is unfinished.

    Args:
        refresh: whether only answers count that were generated anew.

    Attributes:
        finished: set where the file is not needed any more.
        answered: keys of what need not be asked again, because its answer may still be given.

    Raises:
        ForebayError: the file is no journal, or cannot be written.
    """

    def __init__(self, file: Path, refresh: bool) -> None:
        self.finished = False
        self._file = file
        self._refresh = refresh
        try:
            self._out = file.open("ab")
            text = file.read_bytes()
        except OSError as error:
            raise ForebayError(f"{file} cannot be written ({error}); name another with --journal") from None
        whole = text.rfind(b"\n") + 1  # a crash may have left half a line
        self._out.truncate(whole)
        try:
            lines = [msgspec.json.decode(line, type=_Line) for line in text[:whole].splitlines()]
        except msgspec.DecodeError as error:
            raise ForebayError(
                f"{file} is no journal of `forebay warm` ({error}); remove it to begin anew, or name another with"
                " --journal"
            ) from None
        now_s = time.time()
        self.answered = {line.key for line in lines if line.until_s > now_s and line.refreshed >= refresh}

    def note(self, key: str, lasts_s: int) -> None:
        """An answer is here. A crash of this process does not undo that."""
        self._out.write(msgspec.json.encode(_Line(key, int(time.time()) + lasts_s, self._refresh)) + b"\n")
        self._out.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()
        if self.finished or not self._file.stat().st_size:
            self._file.unlink()
