"""A process that a benchmark has started: waited for, talked to in lines of JSON, and ended with all it started."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil
from forebay_schemas.errors import ForebayError

M = TypeVar("M", bound=msgspec.Struct)

_PATIENCE_S = 600
"""A model takes 90 s to load on two idle cores, and several times that on busy ones."""
_POLL_S = 0.05
_GRACE_S = 5
_TAIL_LINES = 15


class BenchFailed(ForebayError):
    """A benchmark cannot go on; the message says which process failed, with the end of its log."""


class Process:
    """A process in a session of its own, so that Ctrl-C reaches it only through us and its children end with it."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path, piped: bool) -> None:
        self.name = name
        self.log = log
        self.began = time.time()
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else out,
                stderr=out,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], object]) -> None:
        """Wait for a condition that this process makes true.

        Raises:
            BenchFailed: it ends instead, or takes too long.
        """
        end = time.monotonic() + _PATIENCE_S
        while not ready():
            self.check()
            if time.monotonic() > end:
                raise self.failed(f"is not ready after {_PATIENCE_S} s")
            time.sleep(_POLL_S)

    def check(self) -> None:
        """See that it runs.

        Raises:
            BenchFailed: it has ended.
        """
        if self.popen.poll() is not None:
            raise self.failed(f"has ended with code {self.popen.returncode}")

    def failed(self, what: str) -> BenchFailed:
        """The error that says what happened to this process, with the end of its log."""
        tail = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return BenchFailed(f"{self.name} {what}; the end of its log:\n  " + "\n  ".join(tail))

    def tell(self, message: msgspec.Struct) -> None:
        """Write one line of JSON to it; it was started with pipes."""
        pipe = self.popen.stdin
        assert pipe is not None, "the process was started with pipes"
        pipe.write(msgspec.json.encode(message) + b"\n")
        pipe.flush()

    def hear(self, message: type[M]) -> M:
        """Wait for one line of JSON from it.

        Raises:
            BenchFailed: it has ended.
        """
        pipe = self.popen.stdout
        assert pipe is not None, "the process was started with pipes"
        line = pipe.readline()
        if not line:
            self.popen.wait()
            raise self.failed(f"has ended with code {self.popen.returncode}")
        return msgspec.json.decode(line, type=message)

    def cpu_s(self) -> float:
        """Processor time that it has used."""
        times = psutil.Process(self.popen.pid).cpu_times()
        return times.user + times.system

    def end(self) -> None:
        """End it and what it started; killed where it does not end by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGTERM)
            os.killpg(self.popen.pid, signal.SIGCONT)  # one that was stopped cannot end
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(_GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
