"""`forebay rollout start` before it asks anybody: weights that no arm would use are refused."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from forebay_jobs.router.weights import UnfitWeights
from forebay_ops.cli import rollout as command
from forebay_schemas.config import load_config


class NoRollouts:
    """The topic of a pipeline that has none."""

    def __init__(self, _: Any) -> None: ...

    def known(self) -> dict[str, Any]:
        return {}

    def close(self) -> None: ...


def started(monkeypatch: pytest.MonkeyPatch, weights: str) -> Result:
    monkeypatch.setattr(command, "Mover", NoRollouts)
    monkeypatch.setattr(command, "cli_config", load_config)
    return CliRunner().invoke(command.start_, ["newer", "--set", f"router.weights={weights}", "--dry-run"])


def test_weights_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "newer.weights"
    file.write_bytes(b"none")
    result = started(monkeypatch, str(file))
    assert isinstance(result.exception, UnfitWeights)
    assert f"router.weights: {file}: cannot be read" in str(result.exception)


def test_weights_that_lie_elsewhere_are_left_to_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    result = started(monkeypatch, "/mnt/elsewhere/newer.weights")
    assert result.exit_code == 0, result.output
    assert "/mnt/elsewhere/newer.weights is not here to be read" in result.output


def test_none_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    result = started(monkeypatch, "none")
    assert result.exit_code == 0, result.output
    assert "not here" not in result.output
