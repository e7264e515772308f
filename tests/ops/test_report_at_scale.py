"""A report over a million replies."""

import datetime as dt
import signal
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from forebay_ops.bench.harness import measure
from forebay_ops.bench.ledger import bench
from forebay_ops.bench.made_up import make_up
from forebay_ops.ledger.folder import current_files
from forebay_ops.reporting import query as asked
from forebay_ops.reporting.query import query

ROWS = 1_000_000
pytestmark = pytest.mark.stack


def test_a_million_replies_are_added_up(tmp_path: Path) -> None:
    make_up(tmp_path, ROWS)
    found = query(tmp_path, by=[("user",)], now=dt.datetime(2026, 1, 1))
    table = pq.read_table(current_files(tmp_path), columns=["repeat", "cost", "baseline_cost"])
    counted = table.filter(table["repeat"].to_numpy() == 0)
    assert found.totals.replies == len(counted) == ROWS - found.repeats
    assert found.totals.cost == pytest.approx(counted["cost"].to_numpy().sum(), rel=1e-9)
    assert found.totals.baseline_cost == pytest.approx(counted["baseline_cost"].to_numpy().sum(), rel=1e-9)
    assert len(found.days) == 90
    assert found.groupings[0].others > 90_000


def test_ctrl_c_ends_a_report_in_the_middle_of_a_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(after_s: float) -> bool:
        """Whether Ctrl-C ends a report so long after its query has begun; else it was there before."""
        pressing = threading.Timer(after_s, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        monkeypatch.setattr(asked, "create_rated", lambda *arguments: (create_rated(*arguments), pressing.start()))
        there = False
        try:
            query(tmp_path, by=[("user",)], now=dt.datetime(2026, 1, 1))
            there = True
            pressing.join()
        except KeyboardInterrupt:
            return not there
        raise AssertionError("nobody pressed Ctrl-C")

    make_up(tmp_path, ROWS)
    create_rated = asked.create_rated
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
    try:
        assert any(ended(after_s) for after_s in (0.05, 0.04, 0.03, 0.02, 0.01, 0.005))
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_benchmark_measures_a_report_beside_reading_two_columns() -> None:
    with bench(9_000, lambda _: None) as prepared:
        figures = measure(prepared, 1, lambda _: None)
    assert {figure.side for figure in figures if figure.metric == "query_s"} == set(prepared.sides)
    assert all(figure.median > 0 for figure in figures)
    assert prepared.facts["replies"] == 9_000
