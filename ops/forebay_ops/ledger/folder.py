"""The ledger's folder: which files count, and how it changes in one step whatever is killed when.

A change writes its files under names that no reader looks for. Then it replaces ``progress.json`` by one that tells
the change; that is the moment at which it has happened. Only then the files get their names, and those that they
replace are deleted: a restart finishes a change that is told, and forgets one that is not.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from forebay_schemas.errors import ConfigError, ForebayError

Ends = dict[str, dict[int, int]]
"""Of each partition of each topic: the offset of the first record that is not in the ledger yet."""

TopicIds = dict[str, str]
"""By the topics' names. One that is deleted and made anew has the same name and another id."""

FEEDBACK = "feedback"
"""The folder of the feedback, inside that of the replies and like it inside."""

_UNFINISHED = ".unfinished"
_DAY = "day="
_LOCK = "lock"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What ``progress.json`` tells: how far each partition is in the ledger, and the last change.

    Attributes:
        number: of the newest file; none is used twice.
        topic_ids: of the topics that the ends are of, as far as they are known.
        added: the files of the last change, relative to the folder.
        removed: the files that they replace.
    """

    number: int = 0
    ends: Ends = {}
    topic_ids: TopicIds = {}
    added: list[str] = []
    removed: list[str] = []


class LedgerFolder:
    """The folder, for the one process that writes to it.

    Raises:
        ConfigError: another process writes to it.
        ForebayError: its progress cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(root)
        try:
            self.progress = read_progress(root)
            self._number = self.progress.number
            self._finish()
            for left in root.glob(f"{_DAY}*/*{_UNFINISHED}"):
                left.unlink()
        except BaseException:
            self.close()
            raise

    def new_file(self, day: str) -> Path:
        """Where the next file of a day is to be written; readers see it once it is committed."""
        folder = self.root / f"{_DAY}{day}"
        if not folder.is_dir():
            folder.mkdir()
            _sync(self.root)
        self._number += 1
        return folder / f"{self._number:010d}{_UNFINISHED}"

    def commit(
        self,
        written: Sequence[Path],
        *,
        ends: Ends | None = None,
        replaced: Sequence[Path] = (),
        topic_ids: TopicIds | None = None,
    ) -> None:
        """Make files part of the ledger, in one step with the ends they reach and the files they replace."""
        for place in (*written, *{file.parent for file in written}):
            _sync(place)
        self.progress = Progress(
            number=self._number,
            ends=self.progress.ends if ends is None else ends,
            topic_ids=self.progress.topic_ids if topic_ids is None else topic_ids,
            added=[self._name(file.with_suffix(".parquet")) for file in written],
            removed=[self._name(file) for file in replaced],
        )
        _replace(_progress_file(self.root), msgspec.json.format(msgspec.json.encode(self.progress)))
        self._finish()

    def days(self) -> Iterator[tuple[str, list[Path]]]:
        """The days that the ledger has, oldest first, each with its files in the order of their numbers."""
        for folder in sorted(self.root.glob(f"{_DAY}*")):
            yield folder.name.removeprefix(_DAY), sorted(folder.glob("*.parquet"))

    def drop(self, day: str) -> None:
        """Forget a day. One that is forgotten in part when the process dies is dropped again later."""
        shutil.rmtree(self.root / f"{_DAY}{day}")

    def beat(self) -> None:
        """Show that this process is alive and not stuck."""
        os.utime(self._lock)

    def close(self) -> None:
        """Let another process write."""
        os.close(self._lock)

    def _finish(self) -> None:
        for file in map(self.root.joinpath, self.progress.added):
            with suppress(FileNotFoundError):  # it has its name already, or its day was dropped since
                file.with_suffix(_UNFINISHED).rename(file)
                _sync(file.parent)
        for name in self.progress.removed:
            (self.root / name).unlink(missing_ok=True)

    def _name(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix()


def read_progress(root: Path) -> Progress:
    """How far a ledger is; a folder without one is at its beginning.

    Raises:
        ForebayError: the file cannot be read.
    """
    file = _progress_file(root)
    try:
        return msgspec.json.decode(file.read_bytes(), type=Progress)
    except FileNotFoundError:
        return Progress()
    except msgspec.DecodeError as error:
        raise ForebayError(f"{file} tells no progress ({error}); restore it, or move the whole folder away") from None


def current_files(root: Path) -> list[Path]:
    """The files of a ledger as they are at one moment, also while its process changes them.

    Each is there when this returns; its process may rename or replace it later: see ``reading.undisturbed``.
    """
    while True:
        progress = read_progress(root)
        found = {file.relative_to(root).as_posix() for file in root.glob(f"{_DAY}*/*.parquet")}
        if progress == read_progress(root):
            break
    named = (found - set(progress.removed)) | set(progress.added)
    candidates = ((root / name, (root / name).with_suffix(_UNFINISHED)) for name in sorted(named))
    return [next(filter(Path.exists, pair)) for pair in candidates if any(map(Path.exists, pair))]


def seconds_since_alive(root: Path) -> float:
    """How long ago the process that writes a ledger was last seen at work."""
    return time.time() - (root / _LOCK).stat().st_mtime


def _progress_file(root: Path) -> Path:
    return root / "progress.json"


def _locked(root: Path) -> int:
    lock = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(
            f"ledger.folder: another process writes to {root}; stop it, or give this one a folder of its own"
        ) from None
    return lock


def _replace(file: Path, content: bytes) -> None:
    unfinished = file.with_suffix(_UNFINISHED)
    unfinished.write_bytes(content)
    _sync(unfinished)
    unfinished.rename(file)
    _sync(file.parent)


def _sync(place: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power failure."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
