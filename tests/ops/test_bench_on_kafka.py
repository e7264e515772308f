"""A benchmark on a real broker: every side is measured, and nothing is left running."""

import os
from pathlib import Path

import psutil
import pytest
from forebay_ops.bench import transactions
from forebay_ops.bench.harness import measure

pytestmark = pytest.mark.stack


def test_the_transactions_benchmark_measures_every_side_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_HOME", str(Path(__file__).parents[2] / ".forebay"))
    monkeypatch.setenv("FOREBAY_KAFKA__BOOTSTRAP", "localhost:1")  # of some installation, which is left alone
    monkeypatch.setattr(transactions, "INTERVALS_MS", (20,))
    monkeypatch.setattr(transactions, "TRANSACTION_TIMEOUT_MS", 1_000)
    monkeypatch.setattr(transactions, "STEADY", 50)
    monkeypatch.setattr(transactions, "AT_ONCE", 100)
    before = set(psutil.Process(os.getpid()).children(recursive=True))
    with transactions.bench(print) as bench:
        figures = {(figure.metric, figure.side): figure.median for figure in measure(bench, 1, print)}
    sides = {side for _, side in figures}
    assert sides == {"plain", "every 20 ms", "no open transaction", "one left open"}
    assert all(value > 0 for value in figures.values())
    assert figures["held_ms", "one left open"] > figures["held_ms", "no open transaction"]
    assert set(psutil.Process(os.getpid()).children(recursive=True)) <= before
