"""`forebay router retrain` from a shell: what it learns from, when it rolls out, and what it refuses."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from forebay_jobs.router.features import FEATURES
from forebay_jobs.router.router import CHANCE
from forebay_jobs.router.weights import read_weights
from forebay_ops.cli import router_retrain as command
from forebay_ops.outcomes import retraining
from forebay_ops.outcomes.reading import Outcomes
from forebay_schemas.records import Audit
from forebay_schemas.rollouts import Stage

from ..known_quality import EASY, questions
from .test_learning import WordEmbedder
from .test_router_drift import a_rollout, audit


def audits(count: int, known: bool = True) -> list[Audit]:
    """What a small tier that cannot do hard tasks would be told; or nothing that can be known from the question."""
    dice = random.Random(2)
    made = questions()
    found = []
    for number in range(count):
        question = next(made)
        agrees = question.split()[1] in EASY if known else dice.random() < 0.5
        found.append(audit(number, question=question, agrees=agrees, other_tier="large"))
    return found


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """The rollouts that are started."""
    rollouts: list[dict[str, Any]] = []
    monkeypatch.setattr(command, "loaded_embedder", lambda *_: WordEmbedder())
    monkeypatch.setattr(command, "known_rollouts", lambda _: {})
    monkeypatch.setenv("FOREBAY_ROUTER__WEIGHTS", "none")
    monkeypatch.setattr(command.start_, "callback", lambda **given: rollouts.append(given))
    monkeypatch.chdir(tmp_path)
    return rollouts


def run(monkeypatch: pytest.MonkeyPatch, found: list[Audit], *arguments: str) -> Result:
    monkeypatch.setattr(command, "read_outcomes", lambda *_: Outcomes(found, []))
    return CliRunner().invoke(command.retrain_, arguments)


def test_better_weights_are_written_and_rolled_out_by_their_path(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = run(monkeypatch, audits(400))
    assert result.exit_code == 0, result.output
    (file,) = (tmp_path / "router-weights").iterdir()
    assert read_weights(file.read_bytes()).version == file.stem
    (given,) = started
    assert given["single"] == (f"router.weights={file}",)
    assert given["name"].startswith("router-20")
    assert given["why"].startswith("retrained: Brier score 0.")
    assert (given["unit"], given["stage"], given["guards"]) == ("tenant", "shadow", ("agreement=0",))


def test_how_it_is_rolled_out_can_be_told(started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, audits(400), "--unit", "user", "--from", "10", "--guard", "slower=3", "--guard", "agreement=0.5")
    (given,) = started
    assert (given["unit"], given["stage"]) == ("user", "10")
    assert given["guards"] == ("agreement=0", "slower=3", "agreement=0.5")  # the last of a name counts


def test_a_guard_that_is_none_is_told_before_anything_is_learned(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "retrain", lambda *_: pytest.fail("it is too late to say so"))
    assert "'slow' is no guard; use one of min-minutes" in run(monkeypatch, audits(400), "--guard", "slow=3").output


def test_it_says_how_to_roll_out_where_that_is_not_wanted(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(monkeypatch, audits(400), "--no-rollout", "--name", "newer")
    assert "to roll it out: forebay rollout start newer --set router.weights=/" in result.output
    assert started == []


def test_what_is_not_surely_better_changes_nothing(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = run(monkeypatch, audits(400, known=False))
    assert result.exit_code == 0
    assert "not surely better: nothing changes" in result.output
    assert started == []
    assert list(tmp_path.iterdir()) == []


def test_what_the_rules_tell_already_is_no_gain(started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether a question begins with why says all but the one answer in ten of which nothing can be known.
    told = [
        msgspec.structs.replace(
            each,
            question=f"{'Name' if each.agrees else 'Why'}: {each.question}",
            agrees=each.agrees == (number % 10 > 0),
        )
        for number, each in enumerate(audits(400))
    ]
    result = run(monkeypatch, told)
    assert "rules" in result.output.split()
    assert "not surely better: nothing changes" in result.output
    assert started == []


def test_no_gain_is_told_of_few_questions(started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "_FIFTH", 50)
    result = run(monkeypatch, audits(400))
    assert "questions apart from those to learn from, and it takes 40" in str(result.exception)
    assert started == []


def test_a_tier_between_of_which_little_is_known_is_left_out(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    few = [audit(400 + number, question=f"Prove {number}", tier="medium", other_tier="large") for number in range(5)]
    run(monkeypatch, [*audits(400), *few], "--no-rollout")
    (file,) = (tmp_path / "router-weights").iterdir()
    assert read_weights(file.read_bytes()).tiers == ["small", "large"]


def test_features_are_those_of_the_request_as_it_was_routed(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # By learned weights, after three turns; not all of the last ones tell what kind of question it is.
    routed = dict.fromkeys(FEATURES, 0.0) | {"context": 0.45, "recognised": 1.0, f"{CHANCE}small": 0.5}
    found = [msgspec.structs.replace(each, features=routed) for each in audits(400)]
    run(monkeypatch, found, "--no-rollout")
    (file,) = (tmp_path / "router-weights").iterdir()
    weights = read_weights(file.read_bytes())
    assert weights.most[FEATURES.index("context")] == pytest.approx(0.45)
    assert weights.least[FEATURES.index("recognised")] == 0.0


def test_another_rollout_of_weights_is_told_before_anything_is_learned(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = a_rollout({"router.weights": '"none"'}, Stage.TEN)
    monkeypatch.setattr(command, "known_rollouts", lambda _: {"new": other})
    monkeypatch.setattr(command, "retrain", lambda *_: pytest.fail("it is too late to say so"))
    result = run(monkeypatch, audits(400))
    assert "router.weights: is changed by the rollout new too, at the stage 10" in str(result.exception)
    assert started == []


def test_a_rollout_of_weights_that_answers_everybody_is_what_the_next_is_compared_with(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, audits(400))
    (given,) = started
    (setting,) = given["single"]
    last_month = a_rollout({"router.weights": f'"{setting.partition("=")[2]}"'}, Stage.ALL)
    monkeypatch.setattr(command, "known_rollouts", lambda _: {"new": last_month})
    result = run(monkeypatch, audits(400))
    assert "not surely better: nothing changes" in result.output
    assert "present" in result.output
    otherwise = [msgspec.structs.replace(each, agrees=not each.agrees) for each in audits(400)]
    assert run(monkeypatch, otherwise).exit_code == 0
    assert len(started) == 2


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([], "0 labelled questions, and it takes 200; equal ones count once: raise audits.share, or"
         " give a longer --since"),
        (audits(50), "50 labelled questions, and it takes 200"),
        ([audit(number, question="Why?" + " " * number, other_tier="large") for number in range(300)],
         "1 labelled questions, and it takes 200; equal ones count once"),
        ([audit(number, question=f"Q {number}", agrees=number % 2 > 0) for number in range(300)],
         "large: 0 good and 0 bad answers to questions to learn from, and it takes 20 of good ones"),
        ([audit(number, question=f"Q {number}", agrees=number > 15, other_tier="large") for number in range(300)],
         "bad answers to questions to learn from, and it takes 20 of each"),
    ],
)  # fmt: skip
def test_too_little_to_learn_from_is_refused_with_what_is_missing(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, found: list[Audit], problem: str
) -> None:
    result = run(monkeypatch, found)
    assert problem in str(result.exception)
    assert started == []
