"""How long `forebay report` takes on a ledger of many replies, beside the least that reading it can take."""

import datetime as dt
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from ..ledger.folder import current_files
from ..reporting.page import page
from ..reporting.query import query
from .harness import Bench, Goal, Say
from .made_up import END, made_up_ledger

_GOAL_S = 30.0


@contextmanager
def bench(rows: int, say: Say) -> Iterator[Bench]:
    """A ledger of so many replies over 90 days, from 50 tenants with 40 endpoints and 100,000 users."""
    with made_up_ledger(rows, say) as root:
        files = current_files(root)
        by = [("tenant",), ("endpoint", "category"), ("user",)]
        sides = {
            "two sums": lambda: two_sums(files),
            "report, last 7 days": lambda: _report(root, since=END - dt.timedelta(days=7)),
            "report": lambda: _report(root),
            "report by tenant, endpoint and user": lambda: _report(root, by=by),
        }
        size_mb = sum(file.stat().st_size for file in files) / 1e6
        goal = Goal(side="report", metric="query_s", at_most=_GOAL_S, of="figure")
        yield Bench(sides, (goal,), {"replies": float(rows), "bytes a reply": size_mb * 1e6 / rows})


def two_sums(files: list[Path]) -> Mapping[str, float]:
    """How long two of its columns take: less, no question to a ledger can."""
    began = time.perf_counter()
    with duckdb.connect() as connection:
        connection.read_parquet([str(file) for file in files]).sum("cost + baseline_cost").fetchall()
    return {"query_s": time.perf_counter() - began}


def _report(root: Path, **options: Any) -> Mapping[str, float]:
    found = query(root, now=END, **options)
    began = time.perf_counter()
    page(found, "bench")
    return {"query_s": found.query_s, "page_s": time.perf_counter() - began}
