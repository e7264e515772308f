"""`forebay config` and the choice of the installation that a command talks to."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from forebay_ops.cli import options
from forebay_ops.cli.options import cli_config
from forebay_ops.cli.parts import config
from forebay_ops.local.effective import PROFILE
from forebay_schemas.config import Config, load_config


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FOREBAY_")]:
        monkeypatch.delenv(name)


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(config, arguments)
    assert result.exit_code == 0
    return result.stdout


def test_the_printed_configuration_is_one_that_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_CONFIG", str(PROFILE))
    before = load_config()
    file = tmp_path / "forebay.toml"
    file.write_text(printed())
    after = load_config(file)
    secret = {"redis": {"url"}}  # stands there as a comment
    assert after.model_dump(exclude=secret) == before.model_dump(exclude=secret)


def test_every_setting_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_CONFIG", str(PROFILE))
    text = printed()

    def check(model: Any) -> None:
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            if field.description:
                assert f"# {field.description}" in text
            for part in [value, *(value.values() if isinstance(value, dict) else [])]:
                if hasattr(type(part), "model_fields"):
                    check(part)

    check(load_config())


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.setenv("FOREBAY_REDIS__URL", "redis://:hush@cache:6379/0")
    monkeypatch.setenv("FOREBAY_SEMANTIC__API_KEY", "hush")
    monkeypatch.setenv("FOREBAY_KAFKA__SECRET_SETTINGS", '{"sasl.password": "hush"}')
    text = printed(*arguments)
    assert "hush" not in text
    assert text.count("*****") >= 3
    assert tomllib.loads(text) if not arguments else json.loads(text)


def test_a_named_configuration_goes_before_a_running_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, running = tmp_path / "named.toml", tmp_path / "running.toml"
    named.write_text('[kafka]\nbootstrap = "named:1"\n')
    running.write_text('[kafka]\nbootstrap = "running:1"\n')
    monkeypatch.setattr(options, "running_config", lambda _: running)
    assert _bootstrap() == "running:1"
    monkeypatch.setenv("FOREBAY_CONFIG", str(named))
    assert _bootstrap() == "named:1"
    monkeypatch.setenv("FOREBAY_KAFKA__BOOTSTRAP", "environment:1")
    assert _bootstrap() == "environment:1"


def test_without_either_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_HOME", str(tmp_path / "empty"))
    assert _bootstrap() == Config().kafka.bootstrap  # pyright: ignore[reportCallIssue]: see load_config
    monkeypatch.setenv("FOREBAY_HOME", str(tmp_path / ("long" * 40)))
    assert _bootstrap() == "localhost:9092"


def _bootstrap() -> str:
    return cli_config().kafka.bootstrap
