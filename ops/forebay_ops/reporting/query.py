"""Asks the ledger, through DuckDB, for everything that a report shows."""

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import CacheStatus

from ..ledger.columns import NO_SHADOW
from ..ledger.folder import FEEDBACK, current_files
from ..ledger.reading import undisturbed
from .feedback import COUNTED, NO_VERDICTS, Verdicts, create_rated
from .outlook import Payback, Projection, payback, project
from .sums import MEASURES, SUMMED, Sums

DIMENSIONS = {
    "tenant": "tenant",
    "endpoint": "endpoint",
    "user": '"user"',
    "category": "category",
    "lane": "lane",
    "tier": "tier",
    "model": "model_id",
    "cache": "cache_status",
    "day": "day",
    "month": "strftime(day, '%Y-%m')",
    "hour": "strftime(completed_at, '%H:00')",
}
"""What replies can be grouped by, and the SQL for it; ``hour`` is that of the day, in UTC."""

_COLUMNS = ("tenant", "endpoint", '"user"', "category", "lane", "tier", "model_id", "cache_status")
_STATUSES = [status.value for status in CacheStatus]
_CHRONOLOGICAL = ("day", "month", "hour")
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in SUMMED)
_WORST = 10
_INTERRUPTED = "Query interrupted"
"""How DuckDB tells that Ctrl-C came while it worked: a RuntimeError of this text."""
_LEAST_SHARE = 0.001
"""Of all replies: a category with fewer is not among the worst, whatever became of its few."""


@dataclass(frozen=True, slots=True)
class Group:
    """Replies that have something in common.

    Attributes:
        key: what, one text a dimension; ``-`` where a reply does not say.
    """

    key: tuple[str, ...]
    sums: Sums
    verdicts: Verdicts = NO_VERDICTS


@dataclass(frozen=True, slots=True)
class Grouping:
    """Replies by one dimension, or several together.

    Attributes:
        groups: in time's order where the first dimension is a time, else the dearest first.
        others: how many groups are left out.
        rest: all of those together; None where none is.
    """

    dimensions: tuple[str, ...]
    groups: list[Group]
    others: int = 0
    rest: Group | None = None


@dataclass(frozen=True, slots=True)
class Latencies:
    """How long answers took, from the request's creation to the reply, in milliseconds."""

    name: str
    answers: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A period of the ledger.

    Attributes:
        first, last: times of the first and the last reply, UTC.
        repeats: replies that answered a request once more, and are counted nowhere else.
        repeats_cost: what they cost, in US dollars.
        shadows: second answers, by which the job audits its routing; they are counted nowhere else.
        shadows_cost: what they cost, in US dollars.
        days, months: sums by date, and by month as ``2026-11``.
        tiers_by_day: answers generated, by date and tier.
        by_status: latencies of answers by cache status.
        by_model: latencies of generated answers by model.
        worst: categories with the largest share of errors and answers to review.
        disliked: categories whose share of thumbs down is surely the largest: by the low end of its interval.
        rated: verdicts by cache status.
        groupings: what was asked for.
        files: how many were read.
        query_s: how long it took.
    """

    first: dt.datetime
    last: dt.datetime
    totals: Sums
    repeats: int
    repeats_cost: float
    shadows: int
    shadows_cost: float
    days: list[tuple[dt.date, Sums]]
    months: list[tuple[str, Sums]]
    tiers: Grouping
    tiers_by_day: list[tuple[dt.date, str, int]]
    by_status: list[Latencies]
    by_model: list[Latencies]
    endpoints: Grouping
    worst: list[Group]
    disliked: list[tuple[str, Verdicts]]
    rated: list[tuple[str, Verdicts]]
    groupings: list[Grouping]
    projection: Projection | None
    payback: Payback | None
    files: int = 0
    query_s: float = 0.0


def query(
    folder: Path,
    *,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    by: Sequence[tuple[str, ...]] = (),
    top: int = 20,
    now: dt.datetime,
    fixed_monthly: Mapping[str, float] | None = None,
) -> Report:
    """Add up the replies of a period.

    Args:
        folder: of the ledger; its process may be writing.
        since, until: UTC without a zone; the period has the first and not the second. None: from the beginning, up to
            now.
        by: the groupings wanted, each of names in ``DIMENSIONS``.
        top: most groups of one that is not by time.
        now: UTC without a zone.
        fixed_monthly: US dollars a month, by what they are paid for.

    Raises:
        ForebayError: the ledger has nothing for this period.
    """
    began = time.perf_counter()

    def asked() -> Report:
        files, feedback = ([str(file) for file in current_files(each)] for each in (folder, folder / FEEDBACK))
        if not files:
            raise ForebayError(f"the ledger in {folder} is empty; `forebay ledger` fills it while replies come")
        try:
            with duckdb.connect() as connection:
                report = _report(_Period(connection, files, feedback, since, until), by, top, now, fixed_monthly or {})
        except RuntimeError as error:
            if str(error) != _INTERRUPTED:
                raise
            raise KeyboardInterrupt from None
        return replace(report, files=len(files), query_s=time.perf_counter() - began)

    return undisturbed(folder, asked)


def _report(
    period: "_Period", by: Sequence[tuple[str, ...]], top: int, now: dt.datetime, fixed_monthly: Mapping[str, float]
) -> Report:
    if period.first is None or period.last is None:
        raise ForebayError("the ledger has nothing in this period; give another --since or --until")
    days, totals = period.by_day(), period.totals()
    by_status = period.latencies("cache_status", "true")
    return Report(
        first=period.first,
        last=period.last,
        totals=totals,
        repeats=period.repeats,
        repeats_cost=period.repeats_cost,
        shadows=period.shadows,
        shadows_cost=period.shadows_cost,
        days=days,
        months=period.by_month(),
        tiers=period.generated_by_tier(),
        tiers_by_day=period.tiers_by_day(),
        by_status=sorted(by_status, key=lambda each: _STATUSES.index(each.name)),
        by_model=period.latencies("model_id", "generated = 1"),
        endpoints=period.grouping(("endpoint",), top),
        worst=period.worst_categories(totals.replies),
        disliked=sorted(period.verdicts("category"), key=_dislike)[:_WORST],
        rated=sorted(period.verdicts("cache_status"), key=lambda each: _STATUSES.index(each[0])),
        groupings=[period.grouping(dimensions, top) for dimensions in by],
        projection=project(days, now.date()),
        payback=payback(totals, (period.last - period.first) / dt.timedelta(days=1), fixed_monthly),
    )


class _Period:
    """The rows of a period as tables: ``ledger`` all of them, ``counted`` without repeats and shadows, ``daily`` added
    up, and ``rated`` the verdicts on them."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        files: list[str],
        feedback: list[str],
        since: dt.datetime | None,
        until: dt.datetime | None,
    ) -> None:
        self._connection = connection
        begun = f"day >= DATE '{since.date()}' AND completed_at >= TIMESTAMP '{since}'" if since else "true"
        ended = f"day <= DATE '{until.date()}' AND completed_at < TIMESTAMP '{until}'" if until else "true"
        # By name, because files of another version may have other columns.
        rows = connection.read_parquet(files, hive_partitioning=True, union_by_name=True)
        rows.filter(begun).create_view("since")
        connection.execute(f"CREATE TEMP VIEW ledger AS SELECT * FROM since WHERE {ended}")
        measures = ", ".join(f"{expression} AS {name}" for name, expression in MEASURES.items())
        dimensions = ", ".join(dict.fromkeys(("day", "completed_at", *_COLUMNS)))
        connection.execute(
            f"CREATE TEMP VIEW counted AS SELECT {dimensions}, total_ms, error_code, {measures}"
            f" FROM ledger WHERE NOT repeat AND {NO_SHADOW}"
        )
        connection.execute(
            f"CREATE TEMP TABLE daily AS SELECT day, cache_status, tier, model_id, {_SUMS} FROM counted GROUP BY ALL"
        )
        create_rated(connection, "since", feedback, dimensions, ended)
        self.first: dt.datetime | None
        self.last: dt.datetime | None
        [(self.first, self.last)] = self._rows("SELECT min(completed_at), max(completed_at) FROM counted")
        self.repeats, self.repeats_cost = self._apart(f"repeat AND {NO_SHADOW}")
        self.shadows, self.shadows_cost = self._apart(f"NOT ({NO_SHADOW})")

    def _apart(self, which: str) -> tuple[int, float]:
        """How many rows are not counted for a reason, and what they cost."""
        [found] = self._rows(f"SELECT count(*), coalesce(sum(cost), 0) FROM ledger WHERE {which}")
        return found

    def totals(self) -> Sums:
        [row] = self._rows(f"SELECT {_SUMS} FROM daily")
        return _sums(row)

    def by_day(self) -> list[tuple[dt.date, Sums]]:
        rows = self._rows(f"SELECT day, {_SUMS} FROM daily GROUP BY day ORDER BY day")
        return [(day, _sums(sums)) for day, *sums in rows]

    def by_month(self) -> list[tuple[str, Sums]]:
        rows = self._rows(f"SELECT {DIMENSIONS['month']} AS month, {_SUMS} FROM daily GROUP BY month ORDER BY month")
        return [(month, _sums(sums)) for month, *sums in rows]

    def generated_by_tier(self) -> Grouping:
        rows = self._rows(
            f"SELECT tier, {_SUMS} FROM daily WHERE cache_status IN ('miss', 'bypass') AND tier IS NOT NULL"
            " GROUP BY tier ORDER BY sum(generated) DESC, tier"
        )
        return Grouping(("tier",), [Group((tier,), _sums(sums)) for tier, *sums in rows])

    def tiers_by_day(self) -> list[tuple[dt.date, str, int]]:
        return self._rows(
            "SELECT day, tier, sum(generated) FROM daily WHERE tier IS NOT NULL GROUP BY ALL"
            " HAVING sum(generated) > 0 ORDER BY day, tier"
        )

    def latencies(self, column: str, where: str) -> list[Latencies]:
        """Exact percentiles by nearest rank of the answers that a condition holds for, the most frequent first."""
        rows = self._rows(
            f"SELECT coalesce({column}, '-') AS name, count(*) AS answers, quantile_disc(total_ms, [0.5, 0.95, 0.99])"
            f" FROM counted WHERE error_code IS NULL AND {where} GROUP BY name ORDER BY answers DESC, name"
        )
        return [Latencies(name, answers, *percentiles) for name, answers, percentiles in rows]

    def grouping(self, dimensions: tuple[str, ...], top: int) -> Grouping:
        keys = [f"key_{number}" for number in range(len(dimensions))]
        chosen = ", ".join(
            f"coalesce(({DIMENSIONS[name]})::VARCHAR, '-') AS {key}" for name, key in zip(dimensions, keys, strict=True)
        )
        in_time = dimensions[0] in _CHRONOLOGICAL
        order = ", ".join(keys if in_time else ["cost DESC", "replies DESC", *keys])
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE grouped AS SELECT *, row_number() OVER (ORDER BY"
            f" {order}) AS place FROM (SELECT {chosen}, {_SUMS} FROM counted GROUP BY ALL)"
            f" LEFT JOIN (SELECT {chosen}, {COUNTED} FROM rated GROUP BY ALL) USING ({', '.join(keys)})"
        )
        shown = "true" if in_time else f"place <= {top}"
        rows = self._rows(f"SELECT * EXCLUDE place FROM grouped WHERE {shown} ORDER BY place")
        groups = [_group(row[: len(keys)], row[len(keys) :]) for row in rows]
        [(others, *rest)] = self._rows(f"SELECT count(*), {_SUMS}, sum(up), sum(down) FROM grouped WHERE NOT ({shown})")
        return Grouping(dimensions, groups, others, _group((), rest) if others else None)

    def verdicts(self, column: str) -> list[tuple[str, Verdicts]]:
        """The verdicts by what a column of their replies says."""
        rows = self._rows(f"SELECT {column}, {COUNTED} FROM rated GROUP BY ALL")
        return [(name, Verdicts(up, down)) for name, up, down in rows]

    def worst_categories(self, replies: int) -> list[Group]:
        rows = self._rows(
            f"SELECT category, {_SUMS} FROM counted GROUP BY category"
            f" HAVING sum(errors) + sum(reviews) > 0 AND sum(replies) >= {_LEAST_SHARE * replies}"
            f" ORDER BY (sum(errors) + sum(reviews)) / sum(replies) DESC, category LIMIT {_WORST}"
        )
        return [Group((category,), _sums(sums)) for category, *sums in rows]

    def _rows(self, sql: str) -> list[Any]:
        return self._connection.execute(sql).fetchall()


def _group(key: tuple[str, ...], values: Sequence[Any]) -> Group:
    *sums, up, down = values
    return Group(key, _sums(sums), Verdicts(up or 0, down or 0))


def _dislike(rated: tuple[str, Verdicts]) -> tuple[float, float, str]:
    """Sorts the surest first, so that one thumb down of one is not the worst."""
    name, verdicts = rated
    share = verdicts.down_share
    assert share is not None, "who is in the list was rated"
    return -share.low, -share.mean, name


def _sums(values: Sequence[Any]) -> Sums:
    return Sums(**dict(zip(SUMMED, values, strict=True)))
