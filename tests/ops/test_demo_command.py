"""`forebay demo`: what it starts it stops, in every case, and what ran before it leaves alone."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from forebay_ops.cli import demo as command
from forebay_ops.demo.player import OnAnswer, Pace, play
from forebay_ops.demo.script import Line

from tests.ops.demo_doubles import Pipeline


class StackDouble:
    """A stack that comes up and goes down at once."""

    def __init__(self, home: Any, config: Any) -> None:
        self.home, self.config = home, config

    def up(self, progress: Any) -> None:
        CALLS.append("up")
        self.home.logs.mkdir(parents=True, exist_ok=True)
        progress.done("all is up")

    def down(self, progress: Any) -> bool:
        CALLS.append("down")
        return True


CALLS: list[str] = []


class SenderDouble(Pipeline):
    """Answers each line as it expects."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __enter__(self) -> "SenderDouble":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Mute(SenderDouble):
    def send(self, line: Line, on_answer: OnAnswer) -> None:
        pass


class Interrupted(SenderDouble):
    def send(self, line: Line, on_answer: OnAnswer) -> None:
        raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.setattr(command, "Stack", StackDouble)
    monkeypatch.setattr(command, "KafkaSender", SenderDouble)
    monkeypatch.setattr(command, "play", partial(play, pace=Pace(settle_s=0.0, patience_s=0.3)))


def forebay_demo(home: Path, *options: str) -> Result:
    return CliRunner().invoke(command.demo, ["--home", str(home), *options])


def test_the_stack_is_brought_up_the_script_played_and_the_stack_stopped(tmp_path: Path):
    result = forebay_demo(tmp_path)

    assert result.exit_code == 0, result.output
    assert CALLS == ["up", "down"]
    assert "saved by reuse" in result.output
    assert "otherwise" not in result.output


def test_with_keep_the_stack_is_left_running(tmp_path: Path):
    result = forebay_demo(tmp_path, "--keep")

    assert CALLS == ["up"]
    assert "The stack is left running: `forebay down` stops it" in result.output


def test_a_stack_that_ran_before_is_used_and_left_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "running_config", lambda home: command.PROFILE)

    result = forebay_demo(tmp_path)

    assert CALLS == ["up"]
    assert "The stack ran before" in result.output


def test_a_pipeline_that_falls_silent_fails_the_demo_says_what_is_missing_and_where_the_logs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(command, "KafkaSender", Mute)

    result = forebay_demo(tmp_path)

    assert isinstance(result.exception, command.NotAllAnswered)
    assert "#1, #2" in str(result.exception)
    assert "The logs are in" in result.output
    assert CALLS == ["up", "down"]


def test_ctrl_c_stops_the_stack_and_says_where_the_logs_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "KafkaSender", Interrupted)

    result = forebay_demo(tmp_path)

    assert result.exit_code != 0
    assert CALLS == ["up", "down"]
    assert "The logs are in" in result.output
