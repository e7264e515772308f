"""`forebay eval rewording`: precision and recall by threshold, on pairs of a file and on those that come with it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from forebay_ops.cli import eval_rewording
from forebay_ops.evaluation.judging import read_pairs
from forebay_ops.evaluation.rewording import REWORDINGS

from tests.jobs.doubles import LetterEmbedder


def test_it_tells_precision_and_recall_at_each_threshold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval_rewording, "loaded_embedder", lambda config, progress: LetterEmbedder())
    pairs = [(f"ab{'c' * number}", f"ab{'c' * number}", 1) for number in range(12)]  # cosine 1 by their letters
    pairs += [(f"{'d' * number}e", f"{'d' * number}e", 0) for number in range(4)]
    pairs += [(f"{'d' * number}f", "g", number % 2) for number in range(8)]  # cosine 0
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps({"a": a, "b": b, "equal": equal}) for a, b, equal in pairs))
    result = CliRunner().invoke(eval_rewording.rewording, ["--data", str(file)])
    assert result.exit_code == 0, result.output
    (used,) = [line for line in result.stdout.splitlines() if "in use" in line]
    assert "0.80 (in use)" in used
    assert [part for part in used.split() if part.endswith("%")][::3] == ["75.0%", "75.0%"]


def test_those_that_come_with_it_are_as_many_of_either_kind() -> None:
    with REWORDINGS.open("rb") as lines:
        pairs = read_pairs(lines)
    assert sum(pair.equal for pair in pairs) == len(pairs) / 2 == 50
