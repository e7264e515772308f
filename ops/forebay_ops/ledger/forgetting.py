"""Takes the rows of a tenant, or of one of its users, out of the ledger: whoever writes to its folder does so.

A wish is a file in the folder. The process that holds the folder's lock carries it out, which is the recorder while one
runs and else the one that wishes; the file goes when all is done, so a wish outlives whoever is killed over it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from forebay_schemas.errors import ConfigError, ForebayError

from .folder import FEEDBACK, LedgerFolder, current_files
from .reading import undisturbed
from .upkeep import ROW_GROUP_ROWS
from .writer import COMPRESSION

_WISHES = "forget"
_POLL_S = 0.2


class NotForgotten(ForebayError):
    """Who has to has not forgotten in time. It is queued, and will be done."""


class Whom(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant, or one of its users."""

    tenant: str
    user: str | None = None


def count(root: Path, whom: Whom) -> dict[str, int]:
    """The rows of replies and of feedback that are theirs; nothing where there is no ledger.

    Feedback counts as a user's also where it is about a reply to that user.

    Raises:
        ForebayError: files cannot be read.
    """

    def counted() -> dict[str, int]:
        replies = _files(root)
        ids = _request_ids(replies, whom)
        return {
            "replies": sum(_matching(file, whom, ()) for file in replies),
            "feedback": sum(_matching(file, whom, ids) for file in _files(root / FEEDBACK)),
        }

    return undisturbed(root, counted)


def forget(root: Path, whom: Whom, timeout_s: float, say: Callable[[str], None]) -> None:
    """Wish that rows go, and return when they are gone; nothing where there is no ledger.

    Raises:
        NotForgotten: another process holds the folder, and has not done it in time.
    """
    if not root.is_dir():
        return
    wish = root / _WISHES / f"{time.time_ns()}-{os.getpid()}.json"
    wish.parent.mkdir(exist_ok=True)
    unfinished = wish.with_suffix(".unfinished")
    unfinished.write_bytes(msgspec.json.encode(whom))
    unfinished.rename(wish)
    until_s = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(ConfigError), contextlib.ExitStack() as opened:  # held by another: that one does it
            replies, feedback = (opened.enter_context(closing(LedgerFolder(each))) for each in (root, root / FEEDBACK))
            carry_out(replies, feedback)
        if not wish.exists():
            return
        if time.monotonic() > until_s:
            raise NotForgotten(
                f"ledger.folder: the process that writes to {root} has not done it within {timeout_s:g} s; it will when"
                " it can (`forebay status`)"
            )
        say("waiting for the ledger")
        time.sleep(_POLL_S)


def is_wished(root: Path) -> bool:
    """Whether there is a wish that is not carried out yet."""
    return any((root / _WISHES).glob("*.json"))


def carry_out(replies: LedgerFolder, feedback: LedgerFolder) -> int:
    """Do what is wished for; how many rows that took out. What is gathered and not written yet is to be written before.

    A file is replaced in one step, as by all other changes: killed at any moment, each row is there or not, and the
    wish is carried out again.
    """
    removed = 0
    for wish in sorted((replies.root / _WISHES).glob("*.json")):
        whom = msgspec.json.decode(wish.read_bytes(), type=Whom)
        ids = _request_ids(_at_work((file for _, files in replies.days() for file in files), replies.beat), whom)
        # Feedback first: which is a user's is known by replies.
        removed += _rewrite(feedback, whom, ids, replies.beat) + _rewrite(replies, whom, (), replies.beat)
        wish.unlink()
    return removed


def _files(root: Path) -> list[Path]:
    return current_files(root) if root.is_dir() else []


def _at_work(files: Iterable[Path], beat: Callable[[], None]) -> Iterator[Path]:
    """The files, and before each a sign of life: all of them may take longer than a liveness probe waits for one."""
    for file in files:
        beat()
        yield file


def _rewrite(folder: LedgerFolder, whom: Whom, ids: Sequence[str], beat: Callable[[], None]) -> int:
    removed = 0
    for day, files in list(folder.days()):
        for file in _at_work(files, beat):
            matching = _matching(file, whom, ids)
            if not matching:
                continue
            removed += matching
            rest = folder.new_file(day)
            if _write(_kept(file, whom, ids), pq.read_schema(file), rest):
                folder.commit([rest], replaced=[file])
            else:
                rest.unlink()
                folder.commit([], replaced=[file])
    return removed


def _kept(file: Path, whom: Whom, ids: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for batch in pq.ParquetFile(file).iter_batches(ROW_GROUP_ROWS):
        yield batch.filter(pc.invert(_are_theirs(batch, whom, ids)))  # pyright: ignore[reportAttributeAccessIssue]


def _write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: Path) -> int:
    rows = 0
    with pq.ParquetWriter(file, schema, compression=COMPRESSION) as out:
        for batch in batches:
            if len(batch):
                out.write_batch(batch)
                rows += len(batch)
    return rows


def _matching(file: Path, whom: Whom, ids: Sequence[str]) -> int:
    columns = ["tenant", "user", "request_id"]
    batches = pq.ParquetFile(file).iter_batches(ROW_GROUP_ROWS, columns=columns)
    return sum(pc.sum(_are_theirs(batch, whom, ids)).as_py() or 0 for batch in batches)  # pyright: ignore[reportAttributeAccessIssue]


def _request_ids(files: Iterable[Path], whom: Whom) -> list[str]:
    """Of the replies to a user."""
    if whom.user is None:
        return []
    found: set[str] = set()
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(ROW_GROUP_ROWS, columns=["tenant", "user", "request_id"]):
            found.update(batch.filter(_are_theirs(batch, whom, ())).column("request_id").to_pylist())
    return sorted(found)


def _are_theirs(batch: pa.RecordBatch, whom: Whom, ids: Sequence[str]) -> pa.Array:
    """For each row whether it is theirs; never null."""
    theirs = _equal(batch, "tenant", whom.tenant)
    if whom.user is None:
        return theirs
    by_user = _equal(batch, "user", whom.user)
    about = pc.is_in(batch.column("request_id"), pa.array(ids, pa.string()))  # pyright: ignore[reportAttributeAccessIssue]
    return pc.and_(theirs, pc.or_(by_user, about))  # pyright: ignore[reportAttributeAccessIssue]


def _equal(batch: pa.RecordBatch, column: str, value: str) -> pa.Array:
    return pc.fill_null(pc.equal(batch.column(column), value), False)  # pyright: ignore[reportAttributeAccessIssue]
