"""A process whose clock is set sees another time of day, and waits as long as before."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from .clocks import Clock, no_clocks

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
            assert used_s < 0.15, "a wait whose end is thought to be past is begun again and again"
        told.stdin.write("\n")
