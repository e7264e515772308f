"""A TaskManager beside that of the stack, which takes the job over when the first one is lost."""

import os
import signal
import subprocess
from typing import Any

from forebay_ops.local.parts import common_environment
from forebay_ops.local.probes import taskmanager_registered

from ..end_to_end.conftest import RunningStack
from .breakable import BreakableStack

_NAME = "second-taskmanager"
_LEAVE_S = 30


class SecondTaskManager:
    """It runs from ``join`` to ``leave``. Nothing is found by meaning there: the first one has the index open."""

    def __init__(self, running: RunningStack) -> None:
        self._running = running
        self._process: subprocess.Popen[bytes] | None = None

    def join(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None:
            return
        stack = self._running.stack
        assert isinstance(stack, BreakableStack)
        part = stack.another_taskmanager(_NAME)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
        with (stack.home.logs / f"{_NAME}.log").open("ab") as log:
            self._process = subprocess.Popen(
                part.command,
                env=inherited | common_environment(stack.home) | part.environment,
                cwd=stack.home.root,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def leave(self) -> None:
        """Tell it to stop, and wait for that; one that does not is killed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_LEAVE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def joined(self) -> bool:
        """Starts it where it does not run; whether the JobManager has it, and nothing runs on it."""
        self.join()
        return taskmanager_registered(self._running.config, _NAME) and not self.has_job()

    def has_job(self) -> bool:
        """Whether the job is on it."""
        managers: list[dict[str, Any]] = (self._running.rest("/taskmanagers") or {}).get("taskmanagers", [])
        return any(one["id"] == _NAME and one["freeSlots"] < one["slotsNumber"] for one in managers)
