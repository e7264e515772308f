"""Comparing models behind an OpenAI-compatible endpoint, each asked by a process of its own."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from forebay_ops.cli.validate_model import validate_model

from tests.provider import serving

pytestmark = pytest.mark.stack


def says(question: str, model: str) -> str:
    """The model `good` counts the words of the question, `lazy` says 1."""
    return str(len(question.split())) if model == "good" else "1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Prompts, and a configuration with `good` and `lazy` at an endpoint and `away` where none is."""
    with serving(says) as url:
        places = dict.fromkeys(("good", "lazy"), url) | {"away": "http://127.0.0.1:1/v1"}
        models = "".join(
            f'[models.{name}]\nbackend = "openai"\nprice = {{ input_per_1k = 0, output_per_1k = 0 }}\n'
            f'endpoint = {{ url = "{place}", max_retries = 0, concurrency = 4 }}\n'
            for name, place in places.items()
        )
        tier = '[tiers.only]\ncomplexity_up_to = 1.0\nmodel = "good"\nmax_tokens = 9\n'
        (tmp_path / "forebay.toml").write_text(models + tier)
        monkeypatch.setenv("FOREBAY_CONFIG", str(tmp_path / "forebay.toml"))
        questions = [{"task": "count", "prompt": "word " * (n % 4 + 1), "answer": str(n % 4 + 1)} for n in range(80)]
        (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, questions)))
        yield tmp_path


def validate(folder: Path, original: str, changed: str) -> Result:
    options = ["--prompts", str(folder / "prompts.jsonl"), "--out", str(folder / "report.json")]
    return CliRunner().invoke(validate_model, [original, changed, *options])


def test_a_model_may_take_the_place_of_itself(folder: Path) -> None:
    assert validate(folder, "good", "good").exit_code == 0
    [task] = json.loads((folder / "report.json").read_text())["tasks"]
    assert (task["accuracy"], task["prompts"]) == ([1.0, 1.0], 80)


def test_a_worse_one_may_not_and_the_better_one_may(folder: Path) -> None:
    result = validate(folder, "good", "lazy")
    assert result.exit_code == 1
    assert "count: lost accuracy 75.0%" in result.stdout
    assert validate(folder, "lazy", "good").exit_code == 0


def test_an_endpoint_that_is_away_is_named(folder: Path) -> None:
    result = validate(folder, "away", "good")
    assert result.exit_code == 1
    assert "away cannot be reached" in str(result.exception)
