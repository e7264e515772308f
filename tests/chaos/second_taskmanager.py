"""A TaskManager beside that of the stack, which takes the job over when the first one is lost."""

import os
from typing import Any

from forebay_ops.local.parts import common_environment
from forebay_ops.local.probes import taskmanager_registered

from ..end_to_end.conftest import RunningStack
from .beside import Beside
from .breakable import BreakableStack


class SecondTaskManager(Beside):
    """Nothing is found by meaning there: the first one has the index open."""

    def __init__(self, running: RunningStack) -> None:
        super().__init__("second-taskmanager", running.stack.home)
        self._running = running

    def joined(self) -> bool:
        """Starts it where it does not run; whether the JobManager has it, and nothing runs on it."""
        if self._process is None:
            stack = self._running.stack
            assert isinstance(stack, BreakableStack)
            part = stack.another_taskmanager(self.name)
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
            self._start(part.command, inherited | common_environment(stack.home) | part.environment)
        return taskmanager_registered(self._running.config, self.name) and not self.has_job()

    def has_job(self) -> bool:
        """Whether the job is on it."""
        managers: list[dict[str, Any]] = (self._running.rest("/taskmanagers") or {}).get("taskmanagers", [])
        return any(one["id"] == self.name and one["freeSlots"] < one["slotsNumber"] for one in managers)
