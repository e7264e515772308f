"""What was thought of the replies of a period: finds the reply that each verdict is about, and counts them."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
from forebay_schemas.records import Verdict

from ..statistics import Interval, share_interval

_CLOCKS_DIFFER = "INTERVAL 1 MINUTE"
"""Who gives feedback, and who wrote the reply, each look at a clock of their own."""

COUNTED = ", ".join(f"count(*) FILTER (verdict = '{verdict}') AS {verdict}" for verdict in Verdict)
"""In SQL, the fields of ``Verdicts`` for rows of the table ``rated``."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The verdicts on some replies."""

    up: int
    down: int

    @property
    def rated(self) -> int:
        return self.up + self.down

    @property
    def down_share(self) -> Interval | None:
        """The share of thumbs down; None where nobody rated."""
        return share_interval(self.down, self.rated) if self.rated else None


NO_VERDICTS = Verdicts(0, 0)


def create_rated(
    connection: duckdb.DuckDBPyConnection, replies: str, files: Sequence[str], columns: str, within: str
) -> None:
    """Make the table ``rated``: a row for each verdict that counts, with columns of its reply.

    A verdict is about the last reply to its request before it: an id may have been used again. Of what one user (or a
    source without one) says of a reply the latest counts.

    Args:
        replies: table with the rows of the ledger in which the replies are looked for.
        files: of the feedback.
        columns: of the replies, with commas between.
        within: condition in SQL on the replies whose verdicts are wanted.
    """
    if not files:
        connection.execute(f"CREATE TEMP TABLE rated AS SELECT {columns}, NULL AS verdict FROM {replies} LIMIT 0")
        return
    connection.read_parquet(list(files), union_by_name=True).create_view("feedback")
    connection.execute(
        f"""
        CREATE TEMP TABLE rated AS
        WITH given AS (
            SELECT tenant, request_id, given_at, verdict, source, "user" AS voice, "offset" AS place,
                row_number() OVER () AS number
            FROM feedback
        ), about AS (
            SELECT {columns}, topic, "partition", "offset", given_at, verdict, source, voice, place
            FROM {replies} JOIN given USING (tenant, request_id)
            WHERE NOT repeat AND completed_at <= given_at + {_CLOCKS_DIFFER}
            QUALIFY row_number() OVER (PARTITION BY number ORDER BY completed_at DESC) = 1
        )
        SELECT {columns}, verdict FROM about WHERE {within}
        QUALIFY row_number() OVER (
            PARTITION BY topic, "partition", "offset", source, voice ORDER BY given_at DESC, place DESC
        ) = 1
        """
    )
