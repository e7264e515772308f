"""Jars: fetched once, and never half."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jgo
import pytest
from forebay_ops.local.effective import PROFILE
from forebay_ops.local.home import Home
from forebay_ops.local.provision import CONNECTOR, KAFKA, jar_folder, provision
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("FOREBAY_LOCAL__START", '["kafka", "flink"]')
    return load_config(PROFILE)


def _serve(monkeypatch: pytest.MonkeyPatch, jar: Path, failing: str = "nothing") -> list[str]:
    """Let jgo resolve everything but ``failing`` to one jar; returns what it was asked for."""
    asked: list[str] = []

    def resolve(coordinates: str) -> list[Any]:
        asked.append(coordinates)
        if failing in coordinates:
            raise OSError("no route")
        return [SimpleNamespace(resolve=lambda: jar)]

    jar.touch()
    monkeypatch.setattr(jgo, "resolve", resolve)
    return asked


def test_jars_are_fetched_once(config: Config, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _serve(monkeypatch, tmp_path / "a.jar")
    said: list[str] = []
    provision(config, home, said.append)
    assert asked == [*KAFKA.artifacts, *CONNECTOR.artifacts]
    assert len(said) == 2
    provision(config, home, said.append)
    assert len(asked) == 3
    assert len(said) == 2


def test_a_failure_leaves_nothing_half(
    config: Config, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _serve(monkeypatch, tmp_path / "a.jar", failing="log4j")
    with pytest.raises(ConfigError, match=r"cannot be fetched from Maven Central \(no route\); check the network"):
        provision(config, home, lambda _: None)
    assert [file for file in home.jars.iterdir() if file.name != ".lock"] == []
    _serve(monkeypatch, tmp_path / "a.jar")
    provision(config, home, lambda _: None)
    assert [jar.name for jar in jar_folder(KAFKA, home).iterdir()] == ["a.jar"]
