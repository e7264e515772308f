"""Brings the parts of a stack up: each as soon as what it needs is ready, and all that can be at the same time."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from forebay_schemas.errors import ForebayError

from .parts import Part
from .supervision import Process, Supervisor

_POLL_S = 0.25
_PATIENCE_S = 600
"""A model takes 90 s to load on two idle cores, and several times that on busy ones."""
_MAX_STARTS = 3
"""A part that has been started this often while the stack comes up, and died each time, will not come up."""
_TAIL_LINES = 15


class PartFailed(ForebayError):
    """A part does not come up; the message holds the end of its log."""


class Progress(Protocol):
    """Is told what happens while a stack comes up or goes down."""

    def doing(self, what: str) -> None:
        """What is being done or waited for now; told again and again while it lasts."""
        ...

    def done(self, what: str) -> None:
        """A step that is finished."""
        ...


class Ascent:
    """One way up.

    Args:
        parts: what is to come up.
        supervisor: it runs already; parts may run already too.
        log: where a part's output lies.
        once_ready: is called with a part's name when it is ready, before what waits for it is started.
    """

    def __init__(
        self,
        parts: list[Part],
        supervisor: Supervisor,
        log: Callable[[str], Path],
        once_ready: Callable[[str], None],
    ) -> None:
        self._supervisor = supervisor
        self._log = log
        self._once_ready = once_ready
        self._waiting = {part.name: part for part in parts}
        self._started: list[str] = []
        self._pids: dict[str, set[int]] = defaultdict(set)

    def run(self, progress: Progress) -> None:
        """Return when every part is ready; when that fails or is interrupted, stop what was started here.

        Raises:
            PartFailed: a part dies again and again, or is not ready in time.
        """
        deadline = time.monotonic() + _PATIENCE_S
        try:
            while self._waiting:
                processes = self._supervisor.processes()
                self._start_what_can(processes)
                self._check_alive(processes, deadline)
                progress.doing(self._what_is_awaited())
                self._note_ready(processes, progress)
                time.sleep(_POLL_S)
        except BaseException:
            for name in self._started:
                self._supervisor.stop(name)
            raise

    def _start_what_can(self, processes: Mapping[str, Process]) -> None:
        for part in self._startable():
            if processes[part.name].state == "STOPPED":  # in any other state supervisord is at it already
                self._supervisor.start(part.name)
                self._started.append(part.name)

    def _startable(self) -> list[Part]:
        return [part for part in self._waiting.values() if not self._waiting.keys() & set(part.after)]

    def _check_alive(self, processes: Mapping[str, Process], deadline: float) -> None:
        for name in self._waiting:
            pid = processes[name].pid
            if pid is not None:
                self._pids[name].add(pid)
            if len(self._pids[name]) > _MAX_STARTS:
                raise PartFailed(f"{name} dies each time it is started; {self._tail(name)}")
            if time.monotonic() > deadline:
                raise PartFailed(f"{name} is not ready after {_PATIENCE_S} s; {self._tail(name)}")

    def _note_ready(self, processes: Mapping[str, Process], progress: Progress) -> None:
        for part in self._startable():
            if processes[part.name].pid is None or not part.ready():
                continue
            progress.done(f"{part.name} is up at {part.address}")
            self._once_ready(part.name)
            del self._waiting[part.name]

    def _what_is_awaited(self) -> str:
        return "waiting for " + ", ".join(
            f"{part.name} ({part.waiting})" if part.waiting else part.name for part in self._startable()
        )

    def _tail(self, name: str) -> str:
        file = self._log(name)
        lines = file.read_text(errors="replace").splitlines()[-_TAIL_LINES:] if file.exists() else []
        return f"the end of {file}:\n  " + "\n  ".join(lines)
