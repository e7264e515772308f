"""A real supervisord over small commands: what dies comes back, and nothing outlives the stack."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from forebay_ops.local.home import Home, running_config
from forebay_ops.local.parts import Part
from forebay_ops.local.supervision import Supervisor
from forebay_schemas.errors import ConfigError

pytestmark = pytest.mark.stack

# Says what it was given, leaves a child as vLLM's engine is one, and waits for the end.
_COMMAND = (
    sys.executable,
    "-c",
    "import os, subprocess, time; print('say=' + os.environ['SAY'], flush=True);"
    " child = subprocess.Popen(['sleep', '600'], env={}); print('100%s ready' % '%', flush=True); time.sleep(600)",
)


def _part(name: str = "sleeper") -> Part:
    return Part(name, _COMMAND, "nowhere", lambda: True, 1, environment={"SAY": "50% of a, b = c"})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path)


@pytest.fixture
def supervisor(home: Home) -> Iterator[Supervisor]:
    supervisor = Supervisor(home)
    supervisor.launch([_part()])
    try:
        yield supervisor
    finally:
        supervisor.sweep(grace_s=0)


def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def _start(supervisor: Supervisor, home: Home) -> int:
    supervisor.start("sleeper")
    _eventually(lambda: _log(home).count("ready") == 1)
    pid = supervisor.processes()["sleeper"].pid
    assert pid is not None
    return pid


def _log(home: Home) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (home.logs / "sleeper.log").read_text()
    return ""


def test_nothing_runs_before_it_is_started(supervisor: Supervisor, home: Home) -> None:
    assert running_config(home) is None  # it has no configuration yet
    process = supervisor.processes()["sleeper"]
    assert (process.state, process.pid) == ("STOPPED", None)


def test_a_part_gets_its_command_and_environment_unchanged(supervisor: Supervisor, home: Home) -> None:
    _start(supervisor, home)
    assert _log(home) == "say=50% of a, b = c\n100% ready\n"


def test_a_killed_part_is_started_again_and_counted(supervisor: Supervisor, home: Home) -> None:
    pid = _start(supervisor, home)
    os.kill(pid, signal.SIGKILL)
    _eventually(lambda: _log(home).count("ready") == 2)
    assert supervisor.processes()["sleeper"].pid not in (None, pid)
    assert supervisor.deaths("sleeper") == 1


def test_stopping_leaves_no_process(supervisor: Supervisor, home: Home) -> None:
    _start(supervisor, home)
    said: list[str] = []
    supervisor.stop_all(["sleeper"], said.append)
    assert said == ["stopping sleeper"]
    _eventually(lambda: supervisor.survivors() == [])


def test_what_a_killed_part_leaves_is_found_after_all_is_stopped(supervisor: Supervisor, home: Home) -> None:
    os.kill(_start(supervisor, home), signal.SIGKILL)
    _eventually(lambda: _log(home).count("ready") == 2)
    supervisor.stop_all(["sleeper"], lambda _: None)
    _eventually(lambda: [process.name() for process in supervisor.survivors()] == ["sleep"])


def test_what_a_killed_supervisor_leaves_is_found(supervisor: Supervisor, home: Home) -> None:
    pid = _start(supervisor, home)
    os.kill(int((home.run / "supervisord.pid").read_text()), signal.SIGKILL)
    _eventually(lambda: not supervisor.alive())
    left = supervisor.survivors()
    assert pid in [process.pid for process in left]
    assert len(left) == 2  # the child too, whose environment says nothing
    assert supervisor.sweep() == 2
    assert supervisor.survivors() == []


def test_other_processes_are_not_taken_for_survivors(supervisor: Supervisor) -> None:
    assert psutil.Process().pid not in [process.pid for process in supervisor.survivors()]


def test_a_supervisor_that_cannot_start_says_why(supervisor: Supervisor) -> None:
    with pytest.raises(ConfigError, match=r"supervisord does not start.*already listening"):
        supervisor.launch([_part()])
