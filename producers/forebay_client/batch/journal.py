"""The replies of a batch as they were read from Kafka, in a file of SQLite: a cache, which can be deleted any time."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import BatchState, Reply

_BUSY_S = 60.0
"""Another process that collects the same batch holds the file for as long as one portion takes."""
_TABLES = """
CREATE TABLE about (created_ms INTEGER NOT NULL);
CREATE TABLE positions (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL);
CREATE TABLE replies (row INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE tally (kind TEXT PRIMARY KEY, rows INTEGER NOT NULL, cost REAL NOT NULL, baseline_cost REAL NOT NULL);
"""
_COUNT = """
INSERT INTO tally VALUES (?, 1, ?, ?) ON CONFLICT (kind) DO UPDATE SET
    rows = rows + 1, cost = cost + excluded.cost, baseline_cost = baseline_cost + excluded.baseline_cost
"""
_POSITION = "INSERT INTO positions VALUES (?, ?) ON CONFLICT (partition) DO UPDATE SET next = excluded.next"


class Counted(msgspec.Struct, frozen=True):
    """Replies of one kind: how many, and what they cost in US dollars, and would have on the largest tier."""

    rows: int
    cost: float
    baseline_cost: float


class Journal:
    """The journal of one batch. Several processes may collect into it at once.

    Args:
        folder: where journals lie; made where it is not there.
        state: of the batch. A journal of one that had the same name, on other brokers or before its topics were made
            anew, is begun anew.

    Raises:
        ForebayError: the folder or the file cannot be used.
    """

    def __init__(self, folder: Path, state: BatchState) -> None:
        self._file = folder / f"{state.batch_id}.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = self._open(state)
        except (OSError, sqlite3.Error) as error:
            raise ForebayError(
                f"{self._file}: the journal cannot be used ({error}); delete it, it is rebuilt from Kafka, or name"
                " another folder"
            ) from None

    def positions(self, state: BatchState) -> dict[int, int]:
        """By partition of the reply topic, where to go on reading."""
        return dict(enumerate(state.replies_from)) | dict(self._db.execute("SELECT partition, next FROM positions"))

    def add(
        self, replies: Sequence[tuple[int, bytes]], positions: Mapping[int, int], decode: Callable[[bytes], Reply]
    ) -> None:
        """Keep the replies that are new, with the places up to which the topic was read. The first to a row counts.

        Args:
            replies: rows, and encoded replies.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for row, value in replies:
                if self._db.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (row, value)).rowcount:
                    reply = decode(value)
                    self._db.execute(_COUNT, (kind_of(reply), reply.cost, reply.baseline_cost))
            self._db.executemany(_POSITION, positions.items())

    def tally(self) -> dict[str, Counted]:
        """The replies by kind: a cache status, or the code of an error."""
        return {kind: Counted(*sums) for kind, *sums in self._db.execute("SELECT * FROM tally")}

    def rows(self) -> Iterator[int]:
        """The rows that have a reply, in their order."""
        return (row for (row,) in self._db.execute("SELECT row FROM replies ORDER BY row"))

    def replies(self) -> Iterator[tuple[int, bytes]]:
        """Rows and their encoded replies, in the order of the rows."""
        return iter(self._db.execute("SELECT row, value FROM replies ORDER BY row"))

    def close(self) -> None:
        self._db.close()

    def _open(self, state: BatchState) -> sqlite3.Connection:
        try:
            db = self._connect()
            known = list(db.execute("SELECT created_ms FROM about")) if _has_tables(db) else []
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # it is not broken but locked, or its folder is full
            known = []
            db = None
        if known == [(state.created_ms,)] and db is not None:
            return db
        if db is not None:
            db.close()
        for ending in ("", "-wal", "-shm"):
            self._file.with_name(self._file.name + ending).unlink(missing_ok=True)
        db = self._connect()
        with db:
            db.execute("BEGIN IMMEDIATE")
            if not _has_tables(db):
                for statement in filter(str.strip, _TABLES.split(";")):
                    db.execute(statement)
                db.execute("INSERT INTO about VALUES (?)", (state.created_ms,))
        return db

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._file, timeout=_BUSY_S, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # a power failure may lose the newest, which Kafka has
        return db


def kind_of(reply: Reply) -> str:
    """What a reply is counted as: where its answer came from, or the code of its error."""
    return reply.error.code if reply.error else reply.cache_status


def _has_tables(db: sqlite3.Connection) -> bool:
    return bool(list(db.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'")))
