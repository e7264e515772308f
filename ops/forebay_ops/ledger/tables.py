"""What the ledger keeps of a kind of record: what recorder and writer have to know of replies, and of feedback."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from forebay_schemas.records import Record


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of a topic.

    Attributes:
        record: None where there is none that can be read.
    """

    topic: str
    partition: int
    offset: int
    record: Any


class Table(Protocol):
    """One kind of record."""

    @property
    def name(self) -> str:
        """What its rows are."""
        ...

    @property
    def record(self) -> type[Record]:
        """What its topics hold."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Its columns; the first is the time that tells the day of a row."""
        ...

    def check(self, record: Any, topic: str) -> None:
        """See whether a record can be kept.

        Raises:
            RecordError: why it cannot.
        """
        ...

    def row(self, entry: Entry) -> dict[str, Any]:
        """All columns of an entry that has a record. Called once for each, in the order of its partition."""
        ...


def batch_of(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows as Arrow holds them: a tenth of the memory."""
    return pa.RecordBatch.from_pylist(list(rows), schema=schema)


def by_day(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each day (UTC, as ISO 8601), in the order in which they came."""
    days = table.column(0).cast(pa.date32())
    for day in sorted(days.unique().to_pylist()):
        same = pc.equal(days, pa.scalar(day, pa.date32()))  # pyright: ignore[reportAttributeAccessIssue]: made at import
        yield day.isoformat(), table.filter(same)
