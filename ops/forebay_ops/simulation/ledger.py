"""Traffic from a ledger. It holds no question: who asked the same is known by the answers that were given again."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import CachePolicy, Lane

from ..ledger.columns import NO_SHADOW
from ..ledger.folder import current_files
from ..ledger.reading import undisturbed
from .behaviour import ANSWER_TOKENS, SERVICE_MS, Behaviour, Share
from .linking import linked, traffic_of
from .traffic import GENERATED, STATUSES, TOKENS, Case, Floats, Ints, Kind, Recorded, Traffic

_GENERATED = "cache_status IN ('miss', 'bypass')"
_BOUND = "CASE WHEN route_reason IN ('min_tier', 'max_tier', 'task') THEN route_reason END"
_CASE = f"category, lane, cache_status = 'bypass', {_BOUND}, if({_BOUND} IS NULL, NULL, route_tier), complexity"
_RECOGNISED = "coalesce(features['recognised'], 1.0) > 0"
_SHARES = f"""
WITH made AS (SELECT * FROM answers WHERE {_GENERATED} AND route_tier IS NOT NULL),
generations AS (  -- those on the paths of the replies, and those that answered
    SELECT route_tier, tier, completion_tokens AS tokens FROM made
    UNION ALL
    SELECT route_tier, hop.tier, hop.completion_tokens
    FROM (SELECT route_tier, unnest(path) AS hop FROM made) WHERE hop.reason <> 'unavailable'
),
by_tier AS (SELECT route_tier, tier, count(*) AS prompts, sum(tokens) AS tokens FROM generations GROUP BY ALL),
written AS (  -- as if each tier wrote all of them
    SELECT route_tier, limits.tier, count(*) AS replies, sum(least(completion_tokens, limits.tokens)) AS tokens
    FROM made, limits GROUP BY ALL
)
SELECT route_tier, tier, prompts / replies, coalesce(by_tier.tokens / nullif(written.tokens, 0), 0)
FROM by_tier JOIN written USING (route_tier, tier)
"""
_NUMBER = "coalesce(try_cast(regexp_extract(request_id, '^replay-.*-([0-9]+)$', 1) AS BIGINT), 0) - 1"
"""As ``replay.run.Run`` counts, from 0 here; below zero for what no replay sent."""
_COMPLEXITY = 0.0
"""Of a request whose reply tells none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTraffic:
    """A period of a ledger.

    Attributes:
        number: of each row its place in the trace that was replayed, from 0; ``UNKNOWN`` for what was not.
        errors: replies that are left out because they are no answers.
    """

    traffic: Traffic
    recorded: Recorded
    behaviour: Behaviour
    number: Ints
    errors: int


def read_ledger(
    folder: Path,
    config: Config,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    run: str | None = None,
    first: int | None = None,
) -> LedgerTraffic:
    """The answers of a period, the first included and the last not; times are UTC without a zone.

    Args:
        run: only the requests of the replay of this name.
        first: of these only so many, from the first on.

    Raises:
        ForebayError: there are none, or the files cannot be read.
    """

    def read() -> LedgerTraffic:
        files = [str(file) for file in current_files(folder)]
        if not files:
            raise ForebayError(f"the ledger in {folder} is empty; `forebay ledger` fills it while replies come")
        with duckdb.connect() as connection:
            return _Reading(connection, files, since, until, run, first).traffic(config)

    return undisturbed(folder, read)


class _Reading:
    """A ledger's files, as DuckDB reads them."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        files: list[str],
        since: dt.datetime | None,
        until: dt.datetime | None,
        run: str | None,
        first: int | None,
    ) -> None:
        self._connection = connection
        connection.execute("SET enable_progress_bar = false")  # the command shows progress of its own
        within = ["NOT repeat", NO_SHADOW]
        # Number 0 is asked to see whether the pipeline answers; it is not of the trace.
        within += [f"number >= 0 AND starts_with(request_id, {_quoted(f'replay-{run}-')})"] if run else []
        within += [f"number < {first}"] if first is not None else []
        within += [f"completed_at >= TIMESTAMP '{since}'"] if since else []
        within += [f"completed_at < TIMESTAMP '{until}'"] if until else []
        rows = connection.read_parquet(files, union_by_name=True).project(f"*, {_NUMBER} AS number")
        counted = rows.filter(" AND ".join(within))
        counted.create_view("counted")
        counted.filter("error_code IS NULL").create_view("answers")

    def traffic(self, config: Config) -> LedgerTraffic:
        columns = self._columns(config)
        if not len(columns["at_ms"]):
            raise ForebayError("the ledger has no answer in this period; give another --since or --until")
        kinds, cases, case = self._cases(columns["case"])
        status = columns["status"].astype(np.int8)
        links = linked(columns)
        generated = np.isin(status, GENERATED)
        [(errors,)] = self._rows("SELECT count(*) FROM counted WHERE error_code IS NOT NULL")
        return LedgerTraffic(
            traffic=traffic_of(columns, links, kinds, cases, case, config),
            recorded=Recorded(
                status=status,
                source=links.source,
                tier=columns["tier"].astype(np.int64),
                cost=columns["cost"],
                baseline_cost=columns["baseline_cost"],
            ),
            behaviour=self._behaviour(np.where(generated, columns["total_ms"], np.nan), config),
            number=columns["number"].astype(np.int64),
            errors=errors,
        )

    def _columns(self, config: Config) -> dict[str, Any]:
        """The rows in the order in which the requests came."""
        names, tiers = ", ".join(map(_quoted, STATUSES)), ", ".join(map(_quoted, config.tiers))
        tokens = ", ".join(f"coalesce({name}, 0) AS {name}" for name in TOKENS)
        found = self._connection.execute(
            "SELECT epoch_ms(completed_at) - coalesce(total_ms, 0)::BIGINT AS at_ms, coalesce(total_ms, 0) AS total_ms,"
            " hash(tenant, request_id) AS own, hash(tenant, matched_request_id) AS matched,"
            " matched_request_id IS NOT NULL AS again, coalesce(similarity, -1) AS similarity,"
            f" list_position([{names}], cache_status) - 1 AS status,"
            f" coalesce(list_position([{tiers}], route_tier), 0) - 1 AS tier,"
            " coalesce(finish_reason, 'stop') IN ('stop', 'tool_calls') AND NOT coalesce(review, false) AS complete,"
            " cost, baseline_cost,"
            f' number, hash({_CASE}, {_RECOGNISED}) AS "case", {tokens} FROM answers ORDER BY at_ms, completed_at'
        ).fetchnumpy()
        return dict(found)

    def _cases(self, hashes: npt.NDArray[np.uint64]) -> tuple[list[Kind], list[Case], Ints]:
        """The kinds and cases that occur, and of each row its case."""
        rows = self._rows(
            f'SELECT hash({_CASE}, {_RECOGNISED}) AS "case", any_value(category), any_value(lane),'
            f" bool_or(cache_status = 'bypass'), any_value({_BOUND}), any_value(route_tier), any_value(complexity),"
            f" bool_or({_RECOGNISED}) FROM answers GROUP BY 1 ORDER BY 1"
        )
        kinds: dict[Kind, int] = {}
        cases: list[Case] = []
        for _, category, lane, bypass, bound, tier, complexity, recognised in rows:
            kind = Kind(
                category=category or "default",
                lane=Lane(lane),
                policy=CachePolicy.BYPASS if bypass else CachePolicy.USE,
                min_tier=tier if bound == "min_tier" else None,
                max_tier=tier if bound == "max_tier" else None,
                task_tier=tier if bound == "task" else None,
            )
            place = kinds.setdefault(kind, len(kinds))
            cases.append(Case(place, _COMPLEXITY if complexity is None else complexity, recognised))
        known = np.array([row[0] for row in rows], dtype=np.uint64)
        return list(kinds), cases, np.searchsorted(known, hashes).astype(np.int64)

    def _behaviour(self, each_ms: Floats, config: Config) -> Behaviour:
        times = self._rows(
            f"SELECT route_tier, lane, median(total_ms) FROM answers WHERE {_GENERATED} AND route_tier IS NOT NULL"
            " GROUP BY ALL"
        )
        limits = ", ".join(f"({_quoted(name)}, {tier.max_tokens})" for name, tier in config.tiers.items())
        self._connection.execute(f"CREATE TEMP TABLE limits AS SELECT * FROM (VALUES {limits}) AS each(tier, tokens)")
        shares: dict[str, dict[str, Share]] = {}
        for first, tier, prompts, answers in self._rows(_SHARES):
            shares.setdefault(first, {})[tier] = Share(prompts, answers)
        [(median_ms, tokens)] = self._rows(
            f"SELECT median(total_ms), avg(completion_tokens) FROM answers WHERE {_GENERATED}"
        )
        return Behaviour(
            service_ms={(tier, Lane(lane)): median for tier, lane, median in times},
            otherwise_ms=SERVICE_MS if median_ms is None else median_ms,
            each_ms=each_ms,
            answer_tokens=ANSWER_TOKENS if tokens is None else round(tokens),
            shares=shares,
        )

    def _rows(self, sql: str) -> Sequence[Any]:
        return self._connection.execute(sql).fetchall()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
