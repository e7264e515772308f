"""Gathers replies, and writes them to the ledger's folder when there are enough of them or enough time has passed."""

import copy
import itertools
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from forebay_schemas.config import Config

from .columns import SCHEMA, Entry, Rows, batch_of, by_day
from .folder import Ends, LedgerFolder
from .repeats import LIMIT, Repeats

COMPRESSION = "zstd"
"""A quarter smaller than snappy here, and read as fast."""

_IDS = ("tenant", "request_id", "completed_at", "error_retryable")


class LedgerWriter:
    """Writes what is added, in the order of each partition. Times are seconds of any clock that does not jump.

    What is added and not flushed yet is lost with the process: ``ends`` tells from where to read again.
    """

    def __init__(self, folder: LedgerFolder, config: Config) -> None:
        self._folder = folder
        self._settings = config.ledger
        self._rows = Rows(config)
        self._repeats = Repeats()
        self._repeats.restore(_answered(folder))
        self._ends: Ends = copy.deepcopy(folder.progress.ends)
        self._batches: list[pa.RecordBatch] = []
        self._began_s: float | None = None

    @property
    def ends(self) -> Ends:
        """How far each partition is in the ledger for good."""
        return self._folder.progress.ends

    @property
    def gathered(self) -> int:
        """Replies that wait to be written."""
        return sum(len(batch) for batch in self._batches)

    def add(self, entries: Iterable[Entry], now_s: float) -> None:
        """Take records, of each partition in the order of their offsets."""
        rows = []
        for entry in entries:
            self._ends.setdefault(entry.topic, {})[entry.partition] = entry.offset + 1
            reply = entry.reply
            if reply is not None:
                retryable = reply.error.retryable if reply.error else None
                repeat = self._repeats.is_repeat(reply.tenant, reply.request_id, reply.completed_ms, retryable)
                rows.append(self._rows.row(entry, reply, repeat))
        if rows:
            self._batches.append(batch_of(rows))
            self._began_s = now_s if self._began_s is None else self._began_s

    def due(self, now_s: float) -> bool:
        """Whether it is time to flush."""
        if self._began_s is None:
            return False
        return self.gathered >= self._settings.roll_rows or now_s - self._began_s >= self._settings.roll_s

    def flush(self) -> None:
        """Write what was gathered: a file for each day, all of them or none."""
        if not self._batches:
            return
        written = []
        for day, rows in by_day(pa.Table.from_batches(self._batches, SCHEMA)):
            file = self._folder.new_file(day)
            pq.write_table(rows, file, compression=COMPRESSION)
            written.append(file)
        self._folder.commit(written, ends=copy.deepcopy(self._ends))
        self._batches, self._began_s = [], None


def _answered(folder: LedgerFolder) -> list[tuple[str, str, int, bool | None]]:
    """The replies written last, oldest first."""
    newest = itertools.islice(_newest_first(folder), LIMIT)
    return list(newest)[::-1]


def _newest_first(folder: LedgerFolder) -> Iterator[tuple[str, str, int, bool | None]]:
    for _, files in reversed(list(folder.days())):
        for file in reversed(files):
            parquet = pq.ParquetFile(file)
            for group in reversed(range(parquet.num_row_groups)):
                columns = parquet.read_row_group(group, columns=list(_IDS))
                completed = columns["completed_at"].cast(pa.int64())
                table = columns.set_column(columns.schema.get_field_index("completed_at"), "completed_at", completed)
                yield from zip(*(table[name].to_pylist()[::-1] for name in _IDS), strict=True)
