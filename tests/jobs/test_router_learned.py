"""The learned scorer: what it makes of a question, when it is used, and that bounds and quality are kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from forebay_jobs.router.router import Router, Routers
from forebay_jobs.router.weights import Weights, encoded
from forebay_jobs.router.worth import complexity_of, interpolated
from forebay_ops.routing.explaining import explained
from forebay_ops.routing.training import train
from forebay_schemas.config import Config, changed, load_config
from forebay_schemas.records import CacheOptions, CachePolicy, CacheStatus, Route

from tests.builders import make_request
from tests.ops.routing_labels import DIMENSIONS, EASY, HARD, data_in, lines, vector, write

from .doubles import LetterEmbedder, Vector, is_task, task_of
from .in_process import Pipeline

CONFIG = load_config()
MODEL = CONFIG.embedding.model
EASY_ONE, HARD_ONE = EASY.format(102), HARD.format(101)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    data = data_in(write(tmp_path_factory.mktemp("labels") / "labels.jsonl", lines()))
    return train(data, [MODEL], "a test")


@pytest.fixture
def config(weights: Weights, tmp_path: Path) -> Config:
    return with_weights(weights, tmp_path)


def with_weights(weights: Weights, folder: Path) -> Config:
    file = folder / "weights.msgpack"
    file.write_bytes(encoded(weights))
    return changed(CONFIG, {"router": {"weights": str(file)}})


class LabelledEmbedder(LetterEmbedder):
    """Embeds as the made-up labels are."""

    def __init__(self) -> None:
        super().__init__()
        self.dimensions = DIMENSIONS

    def embed(self, texts: Sequence[str]) -> Vector:
        return np.stack([vector(text) for text in texts])


def routed(question: str, config: Config, **fields: Any) -> Route:
    return Router(config).route(make_request(question, **fields), vector(question))


def test_a_question_like_those_that_only_the_large_tier_answered_goes_higher(config: Config) -> None:
    easy, hard = routed(EASY_ONE, config), routed(HARD_ONE, config)
    assert (easy.tier, hard.tier) == ("medium", "large")
    assert easy.complexity < 0.7 < hard.complexity
    assert hard.features["chance.small"] < 0.4 < 0.8 < hard.features["chance.large"]


def test_a_request_that_passes_the_caches_is_routed_as_others_are_and_leaves_nothing_in_them(config: Config) -> None:
    pipeline = Pipeline(config, LabelledEmbedder())
    for question in (EASY_ONE, HARD_ONE):
        passes = make_request(question, request_id=f"past {question}", cache=CacheOptions(policy=CachePolicy.BYPASS))
        sent = pipeline.ask(passes)
        (past,) = map(task_of, filter(is_task, sent))
        pipeline.answer(sent)
        (usual,) = map(task_of, filter(is_task, pipeline.ask(make_request(question, request_id=question))))
        assert (past.cache_status, usual.cache_status) == (CacheStatus.BYPASS, CacheStatus.MISS)
        assert past.route == usual.route
        assert past.route.features["chance.small"]


def test_without_weights_a_request_that_passes_the_caches_is_not_embedded() -> None:
    pipeline = Pipeline(changed(CONFIG, {"router": {"weights": "none"}}))
    pipeline.ask(make_request(EASY_ONE, cache=CacheOptions(policy=CachePolicy.BYPASS)))
    assert pipeline.embedder.batches == []


def test_a_tier_without_labels_lies_between_those_that_have_some(config: Config) -> None:
    chances = routed(HARD_ONE, config).features
    assert chances["chance.medium"] == pytest.approx((chances["chance.small"] + chances["chance.large"]) / 2)


def test_the_more_quality_is_wanted_the_higher_a_question_goes(config: Config) -> None:
    complexities = [
        routed(EASY_ONE, changed(config, {"categories": {"default": {"quality": quality}}})).complexity
        for quality in (0.0, 0.5, 0.9, 0.99)
    ]
    assert complexities == sorted(complexities)
    assert complexities[0] < 0.3 < 0.7 < complexities[-1]


def test_bounds_tasks_and_thresholds_hold_for_what_was_learned_too(config: Config) -> None:
    assert routed(HARD_ONE, config, max_tier="small").reason == "max_tier"
    assert routed(EASY_ONE, config, min_tier="large").tier == "large"
    assert routed(HARD_ONE, config, category="sentiment").tier == "small"
    assert routed(EASY_ONE, changed(config, {"tiers": {"small": {"complexity_up_to": 0.001}}})).tier != "small"


@pytest.mark.parametrize("question", ["How do I return a parcel?", "Which pump " * 300])
def test_rules_hold_for_questions_unlike_all_that_were_labelled(config: Config, question: str) -> None:
    request = make_request(question)
    router = Router(config)
    assert router.route(request, vector(question)) == router.route(request, None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"models": ["another-model"]}, "models: learned on another-model, and embedding.model is"),
        ({"feature_version": 99}, "feature_version: is 99, and the features of this release are"),
        ({"format": 99}, "format: is 99"),
        ({"tiers": ["small", "huge"]}, "tiers: knows answers of small, huge, and none of large"),
        ({"by_vector": b"abc"}, "has the wrong length"),
        ({"bias": [float("nan"), 0.0]}, "bias: needs 2 numbers"),
        ({"width": float("nan")}, "width: is nan, and a number of at least 1e-06 is needed"),
        ({"width": -1.0}, "width: is -1"),
        ({"familiar_within": float("inf")}, "familiar_within: is inf"),
        ({"familiar_within": -0.5}, "familiar_within: is -0.5"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_reason_and_rules_hold(
    weights: Weights, tmp_path: Path, change: dict[str, Any], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router(with_weights(msgspec.structs.replace(weights, **change), tmp_path))
    assert router.scorer is None
    assert router.unfit is not None
    assert problem in router.unfit
    assert "forebay router train" in router.unfit
    assert [record.getMessage() for record in caplog.records] == [
        f"{router.unfit}; until then requests are routed by rules"
    ]
    assert router.route(make_request(HARD_ONE), vector(HARD_ONE)) == Router(
        changed(CONFIG, {"router": {"weights": "none"}})
    ).route(make_request(HARD_ONE), None)


def test_vectors_of_another_length_are_told_of_once_and_rules_hold(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    router, request = Router(config), make_request(HARD_ONE)
    short = vector(HARD_ONE)[:-1]
    assert [router.route(request, short) for _ in range(2)] == [router.route(request, None)] * 2
    (told,) = caplog.records
    assert f"vectors have {len(short)} numbers, and router.weights reads {len(short) + 1}" in told.getMessage()
    tables = explained(request, config, router, short)
    assert any(f"its vector has {len(short)} numbers" in cell for row in tables[0].rows for cell in row)


def test_an_arm_whose_weights_do_not_fit_is_routed_as_before(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    routers = Routers(config)
    arm = changed(config, {"router": {"weights": str(tmp_path / "nowhere")}})
    assert "nowhere" in (routers.of(arm).unfit or "")
    assert caplog.messages[-1].endswith("until then requests of a rollout's arm are routed as before")
    request = make_request(HARD_ONE)
    assert routers.of(arm).route(request, vector(HARD_ONE)) == routers.of(config).route(request, vector(HARD_ONE))
    assert routers.of(arm) is routers.of(arm)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"{}", b"\xff" * 100):
        file = tmp_path / "weights.msgpack"
        file.write_bytes(content)
        assert "cannot be read" in (Router(changed(CONFIG, {"router": {"weights": str(file)}})).unfit or "")
    assert "nowhere" in (Router(changed(CONFIG, {"router": {"weights": str(tmp_path / "nowhere")}})).unfit or "")


def test_the_shipped_weights_fit_the_default_configuration() -> None:
    router = Router(CONFIG)
    assert router.unfit is None
    assert router.scorer is not None
    assert router.scorer.weights.tiers == ["small", "large"]


def test_complexity_is_one_half_where_a_step_up_gains_what_it_costs() -> None:
    assert complexity_of([0.8, 0.9], [0.0, 1.0], quality=0.9) == pytest.approx(0.5)
    assert complexity_of([0.9, 0.9], [0.1, 1.0], quality=0.9) == 0.0
    assert complexity_of([0.9, 0.8], [0.1, 1.0], quality=0.9) == 0.0
    assert complexity_of([0.1, 0.9, 0.9], [0.0, 0.1, 1.0], quality=0.9) == pytest.approx(0.5, abs=0.01)


def test_chances_between_labelled_tiers_are_even_steps() -> None:
    assert interpolated({"a": 0.2, "d": 0.8}, "abcd") == pytest.approx({"a": 0.2, "b": 0.4, "c": 0.6, "d": 0.8})
    assert interpolated({"a": 0.2, "b": 0.7, "d": 0.8}, "abcd")["c"] == pytest.approx(0.75)
