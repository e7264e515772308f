"""What `forebay bench index` reckons from the indexes it fills."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forebay_jobs.caches.questions import Neighbour
from forebay_ops.bench import index
from forebay_ops.bench.harness import measure
from forebay_schemas.errors import ForebayError

pytest.importorskip("qdrant_edge", reason="qdrant-edge-py is not installed")


def test_a_plain_index_finds_all_that_comparing_with_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "DIMENSIONS", 16)
    with index.bench(1_000, None, None, lambda what: None) as prepared:
        found = {(one.side, one.metric): one for one in measure(prepared, 3, lambda what: None)}
    for side in ("as added", "graph", "graph, int8"):
        assert found[side, "recall_at_1"].median == found[side, "recall_at_5"].median == 1
        assert found[side, "p95_ms"].low >= found[side, "p50_ms"].low > 0
    assert found["graph", "recall_at_1"].met
    assert prepared.facts["questions"] == "1,000, made up"


def test_what_is_missed_or_in_the_wrong_place_costs_recall() -> None:
    class Wrong:
        def nearest(self, vectors: Any, contexts: list[str], limit: int) -> list[list[Neighbour]]:
            return [[Neighbour(digest=f"{number:032x}", similarity=1) for number in (1, 0, 7)]] * len(vectors)

    asked = np.eye(4, dtype=np.float32)
    truth = np.array([[0, 1, 2, 3, 4], [1, 0, 7, 5, 6], [9, 8, 7, 6, 5], [9, 8, 6, 5, 4]])
    found = index.look_up(Wrong(), asked, truth)  # pyright: ignore[reportArgumentType]
    assert found["recall_at_1"] == 0.25
    assert found["recall_at_5"] == pytest.approx((2 + 3 + 1 + 0) / 20)


def test_a_file_with_too_few_questions_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "few.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(json.dumps({"text": f"q{n}", "label": 1}) for n in range(9)).encode()))
    with (
        pytest.raises(ForebayError, match="holds 9 different questions"),
        index.bench(1_000, file, None, lambda what: None),
    ):
        pass
