"""What `forebay bench growth` reckons from indexes of several sizes."""

import pytest
from forebay_ops.bench import growth, index
from forebay_ops.bench.harness import measure

pytest.importorskip("qdrant_edge", reason="qdrant-edge-py is not installed")


def test_each_size_is_measured_up_to_the_most_and_judged_by_the_logarithm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "DIMENSIONS", 16)
    monkeypatch.setattr(growth, "SIZES", (100, 1_000, 10_000))
    with growth.bench(1_000, lambda what: None) as prepared:
        found = {(one.side, one.metric): one for one in measure(prepared, 3, lambda what: None)}
        facts = prepared.facts
    assert {side for side, _ in found} == {"100", "100, int8", "1,000", "1,000, int8"}
    assert found["1,000", "recall_at_1"].median == 1
    grown = found["1,000, int8", "int8_p50_ms"]
    assert grown.goal == "at most 1.5x"  # log(1,000) / log(100)
    assert grown.ratio is not None
    assert float(facts["1,000, bytes of disk an entry"]) > 4 * 16
    assert float(facts["1,000, int8, s to build"]) > 0
