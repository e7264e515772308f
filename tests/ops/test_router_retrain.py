"""`forebay router retrain` from a shell: what it learns from, when it rolls out, and what it refuses."""

import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from forebay_jobs.router.weights import read_weights
from forebay_ops.cli import router_retrain as command
from forebay_ops.outcomes.reading import Outcomes
from forebay_schemas.records import Audit
from forebay_schemas.rollouts import Stage

from .test_learning import EASY, WordEmbedder, questions
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


def test_another_rollout_of_weights_is_told_before_anything_is_learned(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = a_rollout({"router.weights": '"none"'}, Stage.TEN)
    monkeypatch.setattr(command, "known_rollouts", lambda _: {"new": other})
    monkeypatch.setattr(command, "retrain", lambda *_: pytest.fail("it is too late to say so"))
    result = run(monkeypatch, audits(400))
    assert "router.weights: is changed by the rollout new at the stage 10" in str(result.exception)
    assert started == []


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([], "0 labelled questions, and it takes 200: raise audits.share, or give a longer --since"),
        (audits(50), "50 labelled questions, and it takes 200"),
        ([audit(number, question=f"Q {number}", other_tier="medium") for number in range(300)],
         "nothing is known of the answers of large: wait for audits of them"),
    ],
)  # fmt: skip
def test_too_little_to_learn_from_is_refused_with_what_is_missing(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, found: list[Audit], problem: str
) -> None:
    result = run(monkeypatch, found)
    assert problem in str(result.exception)
    assert started == []
