"""A process of an engine does not outlive its worker, and no other process is touched."""

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points

import pytest
from forebay_workers.parent import end_with_worker

ENGINE = "import time, forebay_workers.parent as p; p.end_with_worker(); print('up', flush=True); time.sleep(60)"
WORKER = """
import subprocess, sys
from forebay_workers.parent import mark_worker
mark_worker()
engine = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
engine.stdout.readline()
print(engine.pid, flush=True)
engine.wait()
"""


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.stack
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks at processes where Linux shows them")
def test_an_engine_ends_when_its_worker_is_killed() -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, ENGINE], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    engine = int(worker.stdout.readline())
    assert alive(engine)
    worker.kill()
    worker.wait()
    end = time.monotonic() + 30
    while alive(engine):
        assert time.monotonic() < end, "the engine outlived its worker"
        time.sleep(0.05)


def test_a_process_that_no_worker_started_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", ENGINE], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "up\n"
        other.send_signal(signal.SIGTERM)
        assert other.wait() == -signal.SIGTERM


def test_vllm_is_told_to_call_it_in_its_processes() -> None:
    plugins = entry_points(group="vllm.general_plugins")
    assert end_with_worker in [plugin.load() for plugin in plugins if plugin.name == "forebay"]
