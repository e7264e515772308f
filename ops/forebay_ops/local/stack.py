"""The local stack as a whole: brought up in order, looked at, and taken down without a trace."""

import fcntl
import os
import shutil
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError

from ..topics import create_topics
from . import servers
from .ascent import Ascent, Progress
from .checks import check_machine
from .effective import effective, settings_of, write_settings
from .flink import write_flink
from .home import Home
from .parts import Part, elsewhere, local_parts
from .provision import provision
from .supervision import Process, Supervisor

_POLL_S = 0.25


class PartState(StrEnum):
    """What a part is doing."""

    UP = "up"
    STARTING = "starting"
    """It runs, and does not do its work yet."""
    RESTARTING = "restarting"
    """It died, and is about to be started again."""
    STOPPED = "stopped"
    AWAY = "away"
    """It is not run by this stack, and does not answer where it should."""


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One line of ``forebay status``."""

    name: str
    state: PartState
    address: str
    pid: int | None = None
    uptime_s: int = 0
    restarts: int = 0


class Stack:
    """The stack of one home.

    Args:
        home: where everything of it lies.
        config: what it runs with; ``effective`` is applied to it.

    Attributes:
        ready_s: when each part was up, in seconds since ``up`` was called.
    """

    def __init__(self, home: Home, config: Config) -> None:
        self.home = home
        self.config = effective(config, home)
        self._parts = local_parts(self.config, home)
        self._elsewhere = elsewhere(self.config)
        self._supervisor = Supervisor(home)
        self.ready_s: dict[str, float] = {}
        self._called_s = 0.0

    def up(self, progress: Progress) -> None:
        """Bring everything up, and return when all of it does its work. Where it runs already, wait for that.

        What was started is stopped again when this fails or is interrupted.

        Raises:
            ConfigError: the stack cannot run here as configured, or runs already with another configuration.
            PartFailed: a part does not come up.
        """
        self._called_s = time.monotonic()
        with self._alone():
            if self._supervisor.alive():
                self._check_same_configuration()
                self._start(progress)
                return
            self._sweep(progress)
            check_machine(self.home, self._parts, self._elsewhere)
            progress.done("ports are free, and there is enough memory and disk space")
            self._prepare(progress)
            try:
                self._supervisor.launch(self._parts)
                self._start(progress)
            except BaseException:
                self._stop(progress)
                raise

    def down(self, progress: Progress, purge: bool = False) -> bool:
        """Stop everything, also what a killed supervisor left behind; purging deletes all but what is installed.

        Returns:
            Whether anything was running.
        """
        with self._alone():
            was_running = self._stop(progress)
            if purge:
                for path in self.home.state:
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                with suppress(OSError):  # jars and models are in it
                    self.home.root.rmdir()
                progress.done(f"deleted the state in {self.home.root}")
            return was_running

    def status(self) -> list[PartStatus]:
        """How every part is now, those that run elsewhere last."""
        processes = self._supervisor.processes() if self._supervisor.alive() else {}
        own = [self._status(part, processes.get(part.name)) for part in self._parts]
        others = [
            PartStatus(other.name, PartState.UP if other.ready() else PartState.AWAY, other.address)
            for other in self._elsewhere
        ]
        return own + others

    def orphans(self) -> int:
        """How many processes are left of a supervisor that was killed."""
        return 0 if self._supervisor.alive() else len(self._supervisor.survivors())

    def pid(self, part: str) -> int | None:
        """The process of a part, or None while none runs."""
        process = self._supervisor.processes().get(part) if self._supervisor.alive() else None
        return process.pid if process else None

    def log(self, part: str) -> Path:
        """The file with a part's output."""
        return self.home.logs / f"{part}.log"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.home.run.mkdir(parents=True, exist_ok=True)
        with self.home.lock.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = os.fstat(lock.fileno()).st_nlink > 0  # else it was purged since it was opened
            except OSError:
                free = False
            if not free:
                raise ConfigError(f"another `forebay up` or `down` is at work in {self.home.root}; let it end")
            yield

    def _check_same_configuration(self) -> None:
        running = tomllib.loads(self.home.config.read_text())
        differing = sorted(_differences(running, settings_of(self.config)))
        if differing:
            raise ConfigError(
                f"a stack runs in {self.home.root} with other settings ({', '.join(differing)});"
                " `forebay down` first, or use another FOREBAY_HOME"
            )

    def _sweep(self, progress: Progress) -> None:
        swept = self._supervisor.sweep()
        if swept:
            progress.done(f"stopped {swept} processes that a killed supervisor had left behind")

    def _prepare(self, progress: Progress) -> None:
        provision(self.config, self.home, progress.doing)
        progress.doing("writing settings")
        start = self.config.local.start
        if "kafka" in start:
            servers.write_kafka(self.config, self.home)
        if "redis" in start:
            servers.write_redis(self.config, self.home)
        if "flink" in start or "job" in start:
            write_flink(self.config, self.home)
        write_settings(self.config, self.home.config)
        progress.done("jars, models and settings are in place")

    def _start(self, progress: Progress) -> None:
        if not any(part.name == "kafka" for part in self._parts):
            self._make_topics(progress)

        def once_ready(name: str) -> None:
            self.ready_s[name] = time.monotonic() - self._called_s
            if name == "kafka":
                self._make_topics(progress)

        Ascent(self._parts, self._supervisor, self.log, once_ready).run(progress)

    def _make_topics(self, progress: Progress) -> None:
        report = create_topics(self.config)
        made = f"{len(report.created)} made, {len(report.kept)} were there"
        progress.done(f"topics are ready ({made})")
        for warning in report.warnings:
            progress.done(f"note: {warning}")

    def _stop(self, progress: Progress) -> bool:
        supervised = self._supervisor.alive()
        if supervised:
            self._supervisor.stop_all((part.name for part in reversed(self._parts)), progress.doing)
        swept = self._supervisor.sweep()
        if supervised or swept:
            progress.done("everything is stopped")
        return supervised or swept > 0

    def _status(self, part: Part, process: Process | None) -> PartStatus:
        if process is None:
            return PartStatus(part.name, PartState.STOPPED, part.address)
        if process.pid is not None:
            state = PartState.UP if part.ready() else PartState.STARTING
        else:
            state = PartState.RESTARTING if process.state == "BACKOFF" else PartState.STOPPED
        restarts = self._supervisor.deaths(part.name)
        return PartStatus(part.name, state, part.address, process.pid, process.uptime_s, restarts)


def _differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """The names of the settings in which two configurations differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from _differences(one.get(key), other.get(key), f"{path}.{key}" if path else key)
    elif one != other:
        yield path
