"""How long `forebay report` takes on a ledger of many replies, beside the least that reading it can take."""

import datetime as dt
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..ledger import feedback
from ..ledger.columns import SCHEMA
from ..ledger.folder import FEEDBACK, LedgerFolder, current_files
from ..ledger.upkeep import ROW_GROUP_ROWS
from ..ledger.writer import COMPRESSION
from ..reporting.page import page
from ..reporting.query import query
from .harness import Bench, Goal, Say

DAYS = 90
_END = dt.datetime(2026, 1, 1)
_GOAL_S = 30.0
_TIERS = ("small", "medium", "large")
_MODELS = ("llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b")
_RATED = 0.02
_STATUSES = ("exact", "semantic", "joined", "miss", "bypass")


@contextmanager
def bench(rows: int, say: Say) -> Iterator[Bench]:
    """A ledger of so many replies over 90 days, from 50 tenants with 40 endpoints and 100,000 users."""
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        root = Path(folder)
        say(f"making {rows:,} replies up")
        make_up(root, rows)
        files = current_files(root)
        by = [("tenant",), ("endpoint", "category"), ("user",)]
        sides = {
            "two sums": lambda: _two_sums(files),
            "report, last 7 days": lambda: _report(root, since=_END - dt.timedelta(days=7)),
            "report": lambda: _report(root),
            "report by tenant, endpoint and user": lambda: _report(root, by=by),
        }
        size_mb = sum(file.stat().st_size for file in files) / 1e6
        goal = Goal(side="report", metric="query_s", at_most=_GOAL_S, of_baseline=False)
        yield Bench(sides, (goal,), {"replies": float(rows), "bytes a reply": size_mb * 1e6 / rows})


def make_up(root: Path, rows: int, days: int = DAYS) -> None:
    """Fill a ledger with made-up replies, and thumbs for some, the same ones each time, one file a day of each; the
    last day is 2025-12-31."""
    generator = np.random.default_rng(1)
    folders = LedgerFolder(root), LedgerFolder(root / FEEDBACK)
    written: tuple[list[Path], list[Path]] = [], []
    number = 0
    for day in range(days):
        count = rows // days + (day < rows % days)
        begin = _END - dt.timedelta(days=days - day)
        replies = _replies(generator, begin, number, count)
        for folder, files, table in zip(folders, written, (replies, _feedback(generator, replies)), strict=True):
            files.append(folder.new_file(begin.date().isoformat()))
            pq.write_table(table, files[-1], compression=COMPRESSION, row_group_size=ROW_GROUP_ROWS)
        number += count
    for folder, files in zip(folders, written, strict=True):
        folder.commit(files)
        folder.close()


def _two_sums(files: list[Path]) -> Mapping[str, float]:
    began = time.perf_counter()
    with duckdb.connect() as connection:
        connection.read_parquet([str(file) for file in files]).sum("cost + baseline_cost").fetchall()
    return {"query_s": time.perf_counter() - began}


def _report(root: Path, **options: Any) -> Mapping[str, float]:
    found = query(root, now=_END, **options)
    began = time.perf_counter()
    page(found, "bench")
    return {"query_s": found.query_s, "page_s": time.perf_counter() - began}


def _replies(generator: np.random.Generator, begin: dt.datetime, first: int, count: int) -> pa.Table:
    status = generator.choice(5, count, p=[0.30, 0.15, 0.03, 0.48, 0.04])
    generated = status >= 3
    tier = generator.choice(3, count, p=[0.62, 0.28, 0.10])
    batch = generator.random(count) < 0.2
    prompt, completion = generator.geometric(1 / 300, count), generator.geometric(1 / 120, count)
    baseline = (prompt * 0.0035 + completion * 0.0035) / 1000
    full = baseline * np.array([0.018, 0.2, 1.0])[tier] * generated
    failed = generated & (generator.random(count) < 0.001)
    offsets_ms = np.sort(generator.integers(0, 86_400_000, count))
    columns = {
        "completed_at": pa.array(np.datetime64(begin, "ms") + offsets_ms.astype("timedelta64[ms]")),
        "request_id": pa.array(np.arange(first, first + count)).cast(pa.string()),
        "tenant": _named(generator.zipf(1.4, count) % 50, "tenant"),
        "user": _named(generator.integers(0, 100_000, count), "user"),
        "endpoint": _named(generator.zipf(1.3, count) % 40, "endpoint"),
        "category": _chosen(generator.integers(0, 4, count), ("support", "chat", "extraction", "code")),
        "lane": _chosen(batch.astype(int), ("interactive", "batch")),
        "cache_status": _chosen(status, _STATUSES),
        "tier": _chosen(tier, _TIERS),
        "model_id": _chosen(tier, _MODELS),
        "route_tier": _chosen(np.where(generator.random(count) < 0.03, 0, tier), _TIERS),
        "hops": pa.array(generated.astype(np.int32)),
        "error_code": pa.array(np.where(failed, "engine_failed", ""), mask=~failed),
        "review": pa.array(generated & (generator.random(count) < 0.004)),
        "prompt_tokens": pa.array(prompt.astype(np.int32)),
        "completion_tokens": pa.array(completion.astype(np.int32)),
        "total_ms": pa.array(generator.lognormal(np.where(generated, 6.5, 2.0), 0.7)),
        "cost": pa.array(full * np.where(batch, 0.5, 1.0)),
        "baseline_cost": pa.array(baseline),
        "saved_by_batch": pa.array(full * np.where(batch, 0.5, 0.0)),
        "saved_by_prefix_cache": pa.array(np.zeros(count)),
        "escalation_cost": pa.array(np.zeros(count)),
        "repeat": pa.array(generator.random(count) < 0.0001),
        "offset": pa.array(np.arange(first, first + count)),
    }
    return pa.table([columns.get(field.name, pa.nulls(count, field.type)) for field in SCHEMA], schema=SCHEMA)


def _feedback(generator: np.random.Generator, replies: pa.Table) -> pa.Table:
    rated = replies.take(np.flatnonzero(generator.random(len(replies)) < _RATED))
    columns = {
        "given_at": rated["completed_at"],
        "verdict": _chosen((generator.random(len(rated)) < 0.1).astype(int), ("up", "down")),
        "source": pa.array(["user"] * len(rated)),
        **{name: rated[name] for name in ("request_id", "tenant", "user", "offset")},
    }
    schema = feedback.SCHEMA
    return pa.table([columns.get(field.name, pa.nulls(len(rated), field.type)) for field in schema], schema=schema)


def _chosen(places: Any, names: tuple[str, ...]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(places), pa.array(names)).cast(pa.string())


def _named(numbers: Any, what: str) -> pa.Array:
    return pa.array(np.char.add(f"{what}-", numbers.astype(str)))
