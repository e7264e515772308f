"""Replies in the ledger: each is a row, and one that answers a request once more says so."""

import itertools
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode, RecordError
from forebay_schemas.records import Reply

from .columns import SCHEMA, Rows
from .folder import LedgerFolder
from .repeats import LIMIT, Repeats
from .tables import Entry

_IDS = ("tenant", "request_id", "completed_at", "error_retryable")
_MAX_COMPLETED_MS = 253_402_300_800_000
"""The year 10000: beyond it there are no dates."""


class ReplyTable:
    """See ``tables.Table``. It remembers which requests were answered, before this process too."""

    name = "replies"
    record = Reply
    schema = SCHEMA

    def __init__(self, folder: LedgerFolder, config: Config) -> None:
        self._rows = Rows(config)
        self._repeats = Repeats()
        self._repeats.restore(_answered(folder))

    def check(self, record: Reply, topic: str) -> None:
        if not 0 <= record.completed_ms < _MAX_COMPLETED_MS:
            raise RecordError(ErrorCode.MALFORMED, f"{record.completed_ms} is no time", "completed_ms")

    def row(self, entry: Entry) -> dict[str, Any]:
        reply: Reply = entry.record
        retryable = reply.error.retryable if reply.error else None
        repeat = self._repeats.is_repeat(reply.tenant, reply.request_id, reply.completed_ms, retryable)
        return self._rows.row(entry, reply, repeat)


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
