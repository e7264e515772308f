"""What `forebay bench teacher` measures: questions beside a judge that never rests, and that it stops in the end."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from forebay_ops.bench import teacher
from forebay_ops.bench.harness import measure

from tests.jobs.doubles import LetterEmbedder

pytest.importorskip("qdrant_edge", reason="qdrant-edge-py is not installed")


class Fast(LetterEmbedder):
    def __init__(self, *_: object) -> None:
        super().__init__()

    def embed_in_spare_time(self, texts: Sequence[str]) -> np.ndarray:
        return self.embed(texts)


def test_each_side_asks_all_and_the_judge_ends_with_its_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "Embedder", Fast)
    monkeypatch.setattr(teacher, "_PAUSE_S", 0.001)
    with teacher.bench(lambda what: None) as prepared:
        found = {(one.side, one.metric): one for one in measure(prepared, 3, lambda what: None)}
        assert "judge" not in {thread.name for thread in threading.enumerate()}
    for side in (teacher.ALONE, teacher.SPARE, teacher.GREEDY):
        assert found[side, "p95_ms"].low >= found[side, "p50_ms"].low > 0
    assert found[teacher.SPARE, "pairs_per_s"].low > 0
    assert (teacher.ALONE, "pairs_per_s") not in found
