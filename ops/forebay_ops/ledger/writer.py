"""Gathers rows, and writes them to a folder when there are enough of them or enough time has passed."""

import copy
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq
from forebay_schemas.sections import LedgerConfig

from .folder import Ends, LedgerFolder, TopicIds
from .tables import Entry, Table, batch_of, by_day

COMPRESSION = "zstd"
"""A quarter smaller than snappy here, and read as fast."""


class LedgerWriter:
    """Writes what is added, in the order of each partition. Times are seconds of any clock that does not jump.

    What is added and not flushed yet is lost with the process: ``ends`` tells from where to read again.
    """

    def __init__(self, folder: LedgerFolder, table: Table, settings: LedgerConfig) -> None:
        self.folder = folder
        self.table = table
        self._settings = settings
        self._ends: Ends = copy.deepcopy(folder.progress.ends)
        self._batches: list[pa.RecordBatch] = []
        self._began_s: float | None = None

    @property
    def ends(self) -> Ends:
        """How far each partition is in the ledger for good."""
        return self.folder.progress.ends

    def begin(self, topic_ids: TopicIds) -> list[str]:
        """Take the ids of the topics that are about to be read, before anything is added.

        Returns:
            Those of them that were made anew: nothing that is in them now is in the ledger.
        """
        known = self.folder.progress.topic_ids
        anew = [topic for topic, found in topic_ids.items() if known.get(topic, found) != found]
        for topic in anew:
            self._ends.pop(topic, None)
        if not topic_ids.items() <= known.items():
            self.folder.commit([], ends=copy.deepcopy(self._ends), topic_ids=known | topic_ids)
        return anew

    @property
    def gathered(self) -> int:
        """Rows that wait to be written."""
        return sum(len(batch) for batch in self._batches)

    def add(self, entries: Iterable[Entry], now_s: float) -> None:
        """Take records, of each partition in the order of their offsets."""
        rows = []
        for entry in entries:
            self._ends.setdefault(entry.topic, {})[entry.partition] = entry.offset + 1
            if entry.record is not None:
                rows.append(self.table.row(entry))
        if rows:
            self._batches.append(batch_of(rows, self.table.schema))
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
        for day, rows in by_day(pa.Table.from_batches(self._batches, self.table.schema)):
            file = self.folder.new_file(day)
            pq.write_table(rows, file, compression=COMPRESSION)
            written.append(file)
        self.folder.commit(written, ends=copy.deepcopy(self._ends))
        self._batches, self._began_s = [], None
