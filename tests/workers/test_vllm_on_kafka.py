"""Workers with real engines on a real broker: a request under which its engine dies is given up."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from forebay_ops.local.effective import with_free_ports
from forebay_ops.local.tiny_model import make_tiny_model
from forebay_workers.loop import UNSEEN_ATTEMPT

from ..broker import Broker
from ..samples import served
from .installation import Installation, with_own_topics

pytestmark = pytest.mark.stack

SETTINGS = """
[kafka]
partitions = 1  # stays where it is when another worker joins
[models.tiny]
backend = "vllm"
weights = "{weights}"
price = {{ input_per_1k = 0.001, output_per_1k = 0.002 }}
[models.tiny.engine]
enforce_eager = true
dtype = "float32"
max_model_len = 512
max_num_seqs = 4
[tiers.small]
complexity_up_to = 1.0
model = "tiny"
max_tokens = 20
[worker]
max_attempts = 1  # each more is another engine to be started
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    pytest.importorskip("vllm")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, sorted(os.sched_getaffinity(0)))))
    broker = Broker(tmp_path, SETTINGS.format(weights=make_tiny_model(tmp_path / "tiny")))
    broker.start()
    installation = Installation(with_own_topics(broker.config), tmp_path)
    yield installation
    installation.close()
    broker.kill()


class Serving:
    """A worker that is ready, and its engine."""

    def __init__(self, installed: Installation) -> None:
        self._port = with_free_ports(installed.config).metrics.worker_port
        self.worker: subprocess.Popen[bytes] = installed.worker(metrics_port=self._port)

    def generating(self) -> float | None:
        """Its tasks that are being generated; None before it is ready."""
        return next((one.value for one in served(self._port) if one.name == "forebay_worker_inflight"), None)

    def engine(self) -> list[psutil.Process]:
        return psutil.Process(self.worker.pid).children(recursive=True)


def until(installed: Installation, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, installed.log.read_text()
        threading.Event().wait(0.1)


def test_a_request_under_which_its_engine_dies_is_given_up_and_all_others_are_answered(installed: Installation) -> None:
    both = [Serving(installed) for _ in range(2)]
    until(installed, lambda: all(one.generating() == 0 for one in both))
    for one in both:
        for process in one.engine():
            process.suspend()  # so that the generation is still running when its engine dies
    installed.send(0)
    installed.flush()
    until(installed, lambda: any(one.generating() for one in both))
    victim, survivor = both if both[0].generating() else reversed(both)
    for process in victim.engine():
        process.kill()
    assert victim.worker.wait(60) == 1
    # Not before: whatever a dying engine is given has had its one attempt.
    for number in range(1, 6):
        installed.send(number)
    installed.flush()
    for process in survivor.engine():
        process.resume()
    replies = {reply.request_id: reply for reply in installed.replies(6)}
    assert {name: reply.error.code for name, reply in replies.items() if reply.error} == {"r0": "given_up"}
    (letter,) = installed.dead_letters(1)
    assert (letter.request_id, letter.code, letter.attempts) == ("r0", "given_up", 1)
    assert letter.history == [f"attempt 1 {UNSEEN_ATTEMPT}"]
