"""Keeps the ledger's folder small: past days become one file each, and old days are deleted."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .folder import LedgerFolder
from .writer import COMPRESSION

ROW_GROUP_ROWS = 131_072
"""What DuckDB reads at once with one thread is 122,880 rows; a group of this size takes some 100 MB here."""

_SETTLED_S = 3_600.0
"""A past day to which something was written later than this may get more: a backlog is being read."""


def tidy(folder: LedgerFolder, schema: pa.Schema, now: dt.datetime, retention_days: int) -> None:
    """Delete the days before the retention, and make one file of the files of each past day that is complete.

    Args:
        schema: of its files.
        now: in UTC.
    """
    today = now.date()
    oldest = (today - dt.timedelta(days=retention_days)).isoformat()
    for day, files in list(folder.days()):
        if day < oldest:
            folder.drop(day)
        elif day < today.isoformat() and len(files) > 1 and _settled(files, now):
            merged = folder.new_file(day)
            _merge(files, merged, schema)
            folder.commit([merged], replaced=files)


def _settled(files: Sequence[Path], now: dt.datetime) -> bool:
    return max(file.stat().st_mtime for file in files) <= now.timestamp() - _SETTLED_S


def _merge(files: Sequence[Path], merged: Path, schema: pa.Schema) -> None:
    with pq.ParquetWriter(merged, schema, compression=COMPRESSION) as out:
        gathered: list[pa.RecordBatch] = []
        for file in files:
            for batch in pq.ParquetFile(file).iter_batches(ROW_GROUP_ROWS):
                gathered.append(batch)
                if sum(map(len, gathered)) >= ROW_GROUP_ROWS:
                    out.write_table(_table(gathered, schema))
                    gathered = []
        if gathered:
            out.write_table(_table(gathered, schema))


def _table(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Of what may have been written before the schema got some of its columns: they are null there."""
    tables = [schema.empty_table(), *(pa.Table.from_batches([batch]) for batch in batches)]
    return pa.concat_tables(tables, promote_options="default").select(schema.names)
