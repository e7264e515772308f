"""Learning a router from labels: the protocol's figures, what is refused, and what the commands print."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from forebay_jobs.router.learned import Scorer
from forebay_jobs.router.weights import encoded, read_weights
from forebay_ops.cli import forebay
from forebay_ops.evaluation.halves import is_test
from forebay_ops.routing import vectors
from forebay_ops.routing.curves import calibration_error, curve
from forebay_ops.routing.evaluation import FIVE_FOLD, LEARNED, LENGTH, Evaluation, Measured, evaluate
from forebay_ops.routing.labels import LabelsError
from forebay_ops.routing.page import page
from forebay_ops.routing.tables import table
from forebay_ops.routing.training import train
from forebay_schemas.errors import ForebayError

from .routing_labels import data_in, labels_in, line, lines, vector, write


def test_the_curve_of_a_score_is_routellms() -> None:
    weak, strong = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.0, 1.0])
    found = curve(np.array([0.1, 0.9, 0.2, 0.8]), weak, strong)
    assert found.accuracy.tolist() == [0.5, 0.75, 1.0, 0.75, 0.75]
    assert found.recovered.tolist() == [0.0, 1.0, 2.0, 1.0, 1.0]
    assert (found.cpt(0.5), found.cpt(0.8)) == (0.25, 0.25)
    assert found.apgr == pytest.approx((0 / 2 + 1 + 2 + 1 + 1 / 2) / 4)


def test_a_score_that_tells_nothing_routes_by_lot() -> None:
    rng = np.random.default_rng(0)
    weak, strong = rng.integers(0, 2, 400).astype(float), np.ones(400)
    assert curve(np.zeros(400), weak, strong).apgr == pytest.approx(0.5)


def test_the_calibration_error_is_the_distance_of_chance_and_share() -> None:
    right = np.array([1.0] * 8 + [0.0] * 2)
    assert calibration_error(np.full(10, 0.8), right) == pytest.approx(0.0)
    assert calibration_error(np.full(10, 0.3), right) == pytest.approx(0.5)
    assert calibration_error(np.ones(10), right) == pytest.approx(0.2)


def _changed(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in (line(0, hard=False) | fields).items() if value is not ...}


@pytest.mark.parametrize(
    ("last", "problem"),
    [
        (_changed(large_correct=...), r"line 426: .*large_correct.*is missing; give true, false, or null"),
        (_changed(small_correct=float("nan")), r"line 426: .*small_correct.*is nan; give true, false, or null"),
        (_changed(small_correct="yes"), r"small_correct.*is 'yes'"),
        (_changed(prompt=" "), r"prompt.*is absent or no text"),
        (["no object"], "line 426"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, last: Any, problem: str) -> None:
    with pytest.raises(ForebayError, match=problem):
        labels_in(write(tmp_path / "labels.jsonl", [*lines(), last]))


def _everywhere(**fields: Any) -> list[dict[str, Any]]:
    return [row | fields for row in lines()]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "has no labels"),
        ([{"prompt": "x", "small_correct": True}], r"<tier>_correct.*1 such columns"),
        (_everywhere(large_correct=True), r"large_correct: 42[0-9] good and 0 bad answers"),
        (_everywhere(small_correct=None), r"small_correct: 0 good and 0 bad answers"),
        ([*lines(), *lines()[:100]], r"prompt: 100 of 525 lines repeat an earlier one"),
    ],
)
def test_a_file_that_nothing_can_be_learned_from_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], problem: str
) -> None:
    with pytest.raises(ForebayError, match=problem):
        labels_in(write(tmp_path / "labels.jsonl", rows))


def test_few_repeated_lines_count_once_and_equal_prompts_share_a_fold(tmp_path: Path) -> None:
    other = line(0, hard=False) | {"small_correct": False}
    labels = labels_in(write(tmp_path / "labels.jsonl", [*lines(), line(0, hard=False), other]))
    assert (len(labels), labels.repeated) == (426, 1)
    assert labels.folds[0] == labels.folds[-1]
    assert set(labels.folds.tolist()) == set(range(5))


def test_training_again_gives_the_same_file_which_holds_no_prompt(tmp_path: Path) -> None:
    data = data_in(write(tmp_path / "labels.jsonl", lines()))
    first, again = (encoded(train(data, ["a model"], "a test")) for _ in range(2))
    assert first == again
    assert b"theorem" not in first
    weights = read_weights(first)
    assert (weights.labels, weights.data) == (425, data.labels.digest)
    assert max(weights.error) < 0.1


def test_also_of_few_labels_most_new_questions_of_the_same_kind_are_like_them(tmp_path: Path) -> None:
    data = data_in(write(tmp_path / "labels.jsonl", lines(1_600)))
    familiar = []
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(len(data))
        few, new = data.part(shuffled[:240]), data.part(shuffled[240:840])
        _, known = Scorer(train(few, [], "a test")).chances(new.labels.prompts, new.features, new.vectors)
        familiar.append(known.mean())
    assert np.mean(familiar) > 0.94  # measured on the labels' own distances less than 0.92


def test_tiers_whose_labels_are_unknown_for_some_prompts_learn_from_the_others(tmp_path: Path) -> None:
    rows = [row | {"large_correct": None} if number < 40 else row for number, row in enumerate(lines())]
    weights = train(data_in(write(tmp_path / "labels.jsonl", rows)), ["a model"], "a test")
    assert np.isfinite(weights.bias).all()


def test_an_evaluation_tells_how_well_prompts_left_out_are_routed(tmp_path: Path) -> None:
    rows = [row | {"dataset": f"set {number // 2 % 2}"} for number, row in enumerate(lines(800))]
    found = evaluate(data_in(write(tmp_path / "labels.jsonl", rows)), lambda _: None)
    ways = {(one.dataset, one.way, one.learned_on): one for one in found.measured}
    assert set(ways) == {
        (name, way, learned_on)
        for name, other in (("set 0", "set 1"), ("set 1", "set 0"))
        for way, learned_on in ((LEARNED, FIVE_FOLD), (LEARNED, other), (LENGTH, ""))
    }
    assert ways["set 0", LEARNED, FIVE_FOLD].curve.apgr > 0.7
    assert min(found.features_us, found.alone_us, found.batched_us) > 0
    text = page(found)
    assert text.count("<svg") == 2
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_goals_are_judged_by_the_half_on_which_nothing_was_chosen() -> None:
    weak, strong = np.array([0.0, 1.0]), np.array([1.0, 1.0])
    whole = curve(np.array([0.9, 0.1]), weak, strong)
    assert whole.apgr > 0.64
    one = Measured(
        way=LEARNED, learned_on=FIVE_FOLD, dataset="gsm8k", prompts=2, weak=0.5, strong=1.0, curve=whole,
        apgr_interval=(0.6, 0.7), apgr_unseen=0.636, errors=(0.01, 0.01),
    )  # fmt: skip
    (row,) = table(Evaluation("small", "large", [one], 1.0, 1.0, 1.0)).rows
    assert row[-1] == "missed: APGR 0.64 by 0.004"


def test_an_unseen_half_without_a_gap_tells_nothing(tmp_path: Path) -> None:
    rows = [
        row | ({"small_correct": True, "large_correct": number % 8 > 0} if is_test(row["prompt"]) else {})
        for number, row in enumerate(lines(600))
    ]
    found = evaluate(data_in(write(tmp_path / "labels.jsonl", rows)), lambda _: None)
    assert [one.apgr_unseen for one in found.measured] == [None, None]


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options of a cache that needs no embedding model."""
    monkeypatch.setattr(
        vectors, "_embedded", lambda prompts, *_: np.array([vector(prompt) for prompt in prompts], np.float32)
    )
    return ["--cache", str(tmp_path / "cache")]


def test_the_commands_train_measure_and_keep_what_was_there(tmp_path: Path, cached: list[str]) -> None:
    labels, out = write(tmp_path / "labels.jsonl", lines()), tmp_path / "weights.msgpack"
    trained = CliRunner().invoke(forebay, ["router", "train", str(labels), "--out", str(out), *cached])
    assert trained.exit_code == 0, trained.output
    assert f"version {read_weights(out.read_bytes()).version} from 425 labels" in trained.output
    before = out.read_bytes()
    write(labels, _everywhere(large_correct=True))
    refused = CliRunner().invoke(forebay, ["router", "train", str(labels), "--out", str(out), *cached])
    assert isinstance(refused.exception, LabelsError)
    assert out.read_bytes() == before
    write(labels, lines())
    measured = CliRunner().invoke(forebay, ["router", "eval", str(labels), *cached])
    assert "length alone" in measured.output
    assert "scoring a prompt given its vector takes" in measured.output


def test_other_ways_to_learn_are_compared_on_the_half_that_was_chosen_on(tmp_path: Path, cached: list[str]) -> None:
    labels = write(tmp_path / "labels.jsonl", lines())
    shown = CliRunner().invoke(forebay, ["router", "eval", str(labels), "--compare", *cached])
    assert shown.exit_code == 0, shown.output
    _, _, compared = shown.output.partition("What was tried")
    apgr = [float(row[32:].split()[0]) for row in compared.splitlines() if " to " in row]
    assert len(apgr) == 9
    assert min(apgr) > 0.7  # prompts whose wording, vector and length all tell how hard they are


@pytest.mark.model
def test_explain_tells_the_tier_the_score_and_the_thresholds(tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"question": "Compare two pumps.", "category": "sentiment"}))
    shown = CliRunner().invoke(forebay, ["router", "explain", "--request", str(request)])
    assert shown.exit_code == 0, shown.output
    for told in ("its task's tier", "rules: unlike all labelled questions", "complexity from", "analytical"):
        assert told in shown.output


@pytest.mark.model
def test_split_tells_how_questions_spread_over_the_tiers(tmp_path: Path) -> None:
    questions = write(
        tmp_path / "questions.jsonl", [{"text": "Who wrote Hamlet?"}, {"text": "Compare two pumps. Why?"}]
    )
    shown = CliRunner().invoke(forebay, ["router", "split", str(questions)])
    assert shown.exit_code == 0, shown.output
    assert "questions.jsonl: 2 questions" in shown.output
    assert "1 (50%)" in shown.output
