"""A process whose clock is set sees another time of day, and waits as long as before; that it does is looked at."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .clocks import Clock, no_clocks
from .faults.clocks import FAULTS

_HOUR_S = 3_600
_TELL = """
import threading, time
from confluent_kafka import Consumer
consumer = Consumer({"bootstrap.servers": "localhost:1", "group.id": "nobody's", "log_level": 0})
while input():
    started, used = time.monotonic(), time.process_time()
    time.sleep(0.01)
    threading.Event().wait(0.01)
    consumer.poll(0.3)
    print(time.time(), time.monotonic(), time.monotonic() - started, time.process_time() - used, flush=True)
"""


@pytest.mark.skipif(no_clocks() is not None, reason=str(no_clocks()))
def test_a_clock_jumps_and_time_passes_as_before(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    command = [sys.executable, "-c", _TELL]
    with subprocess.Popen(
        command, env=clock.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as told:
        assert told.stdin is not None
        assert told.stdout is not None
        for jump_s in (0, _HOUR_S, -_HOUR_S):
            clock.set_by(jump_s)
            told.stdin.write("again\n")
            told.stdin.flush()
            of_day_s, monotonic_s, took_s, used_s = map(float, told.stdout.readline().split())
            assert of_day_s - time.time() == pytest.approx(jump_s, abs=60)
            assert monotonic_s - time.monotonic() == pytest.approx(0, abs=60)
            assert 0.3 <= took_s < 60
            assert clock.is_before_libc_in(told.pid)
            assert not clock.is_before_libc_in(os.getpid())
            assert used_s < 0.15, "a wait whose end is thought to be past is begun again and again"
        told.stdin.write("\n")


@pytest.mark.parametrize("whose", ["broker", "Redis"])
@pytest.mark.parametrize(("how", "wrong_s"), [("an hour ahead", _HOUR_S), ("an hour back", -_HOUR_S)])
def test_a_clock_that_did_not_move_is_not_borne(whose: str, how: str, wrong_s: int) -> None:
    (fault,) = (one for one in FAULTS if one.name == f"clock of {whose} {how}")
    right_s = time.time()

    def lasted(told_s: float, caught_up: bool = True, lasts_s: float = 60) -> object:
        told: dict[str, float] = {"broker": right_s, "Redis": right_s, whose: told_s}
        scene: Any = SimpleNamespace(
            redis=SimpleNamespace(time=lambda: (int(told["Redis"]), 0)),
            checker=SimpleNamespace(reply_appended_s=told["broker"]),
            caught_up_since_broken=lambda: caught_up,
            broken_for_s=lambda: lasts_s,
        )
        return fault.until(scene)

    assert lasted(right_s + wrong_s)
    assert not lasted(right_s + wrong_s, caught_up=False)
    assert not lasted(right_s + wrong_s, lasts_s=1)
    assert not lasted(right_s)
    assert not lasted(right_s - wrong_s)
