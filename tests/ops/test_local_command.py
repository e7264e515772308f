"""`forebay status`, `logs` and `down` where nothing runs."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from forebay_ops.cli import forebay
from forebay_schemas.errors import ConfigError


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_HOME", str(tmp_path))


def _run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(forebay, arguments)
    if isinstance(result.exception, ConfigError):
        raise result.exception
    return result.exit_code, result.output


def test_status_says_how_to_start_a_stack_and_fails() -> None:
    code, output = _run("status")
    assert code == 1
    assert "`forebay up` starts one" in output


def test_down_is_content_where_nothing_runs() -> None:
    code, output = _run("down")
    assert code == 0
    assert "nothing was running" in output


def test_purging_keeps_jars_and_models(tmp_path: Path) -> None:
    for name in ("jars", "models", "kafka", "logs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    assert _run("down", "--purge")[0] == 0
    assert (tmp_path / "jars" / "file").exists()
    assert (tmp_path / "models" / "file").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"jars", "models"}


def test_purging_leaves_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("FOREBAY_HOME", str(home))
    assert _run("down")[0] == 0
    assert home.exists()
    assert _run("down", "--purge")[0] == 0
    assert not home.exists()


def test_a_log_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "kafka.log").touch()
    with pytest.raises(ConfigError, match=r"redis\.log; there are kafka"):
        _run("logs", "redis")
