"""Hands the parts to supervisord, and speaks with it: settings, start, states, stop, and what a dead one left."""

import configparser
import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from forebay_schemas.errors import ConfigError
from supervisor.xmlrpc import SupervisorTransport

from .home import Home, is_supervised
from .parts import Part, common_environment

_LOG_BYTES = "20MB"
_KEPT_LOGS = 2
_ENDLESS = 1_000_000_000
"""Tries to start: supervisord waits a second longer after each that fails, and must not give up by itself."""
_POLL_S = 0.1
_STEADY_S = 5
"""A part that runs this long has started; one that dies earlier is started again after a pause."""


@dataclass(frozen=True, slots=True)
class Process:
    """A part as supervisord sees it.

    Attributes:
        state: supervisord's name for it: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL.
        pid: None while no process runs.
        uptime_s: since this process was started; 0 while none runs.
    """

    state: str
    pid: int | None
    uptime_s: int


class Supervisor:
    """The supervisord of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._settings = home.run / "supervisord.conf"
        self._session_file = home.run / "session"
        self._url = f"unix://{home.socket}"
        transport = SupervisorTransport(None, None, serverurl=self._url)
        self._rpc: Any = xmlrpc.client.ServerProxy("http://localhost", transport=transport).supervisor

    @property
    def log(self) -> Path:
        """The file in which supervisord says what it started and what died."""
        return self._home.logs / "supervisor.log"

    def alive(self) -> bool:
        return is_supervised(self._home)

    def launch(self, parts: list[Part]) -> None:
        """Start supervisord in the background, with none of the parts started yet.

        Raises:
            ConfigError: it does not start.
        """
        for folder in (self._home.run, self._home.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")  # deaths are counted from here
        with self._settings.open("w") as file:
            supervisor_settings(self._home, parts).write(file)
        # The effective configuration holds what the environment said: said twice it could differ in paths.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._settings)],
            env=inherited | common_environment(self._home),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ConfigError(f"supervisord does not start ({(done.stdout + done.stderr).strip()})")
        # Its own pid file goes with it, while a process that it lost can outlive it.
        self._session_file.write_text(str(self._rpc.getPID()))

    def start(self, name: str) -> None:
        self._rpc.startProcess(name, False)

    def stop(self, name: str) -> None:
        self._rpc.stopProcess(name, False)

    def processes(self) -> dict[str, Process]:
        """Every part by name."""
        return {
            info["name"]: Process(
                state=info["statename"],
                pid=info["pid"] or None,
                uptime_s=info["now"] - info["start"] if info["pid"] else 0,
            )
            for info in self._rpc.getAllProcessInfo()
        }

    def deaths(self, name: str) -> int:
        """How often a part has died, and was started again, since this supervisord began."""
        return len(re.findall(rf" exited: {re.escape(name)} \(", self.log.read_text()))

    def stop_all(self, names: Iterable[str], say: Callable[[str], None]) -> None:
        """Stop the parts one after the other, those not named last, and then supervisord."""
        for name in names:
            say(f"stopping {name}")
            with contextlib.suppress(xmlrpc.client.Fault):  # it does not run
                self._rpc.stopProcess(name, True)
        self._rpc.shutdown()
        while self.alive():
            time.sleep(_POLL_S)

    def survivors(self) -> list[psutil.Process]:
        """Every process that belongs to this home, supervisord itself among them."""
        session = self._session()
        return [process for process in psutil.process_iter() if self._owns(process, session)]

    def sweep(self, grace_s: float = 10.0) -> int:
        """End every survivor, kill those that do not end within the grace, and return how many there were."""
        left = self.survivors()
        for process in left:
            _signal(process.terminate)
        _, alive = psutil.wait_procs(left, timeout=grace_s)
        for process in alive:
            _signal(process.kill)
        psutil.wait_procs(alive, timeout=grace_s)
        self._session_file.unlink(missing_ok=True)
        return len(left)

    def _session(self) -> int | None:
        """The session of supervisord, which all its children are in also when it is gone."""
        try:
            pid, written_s = int(self._session_file.read_text()), self._session_file.stat().st_mtime
        except (FileNotFoundError, ValueError):
            return None
        if written_s < psutil.boot_time():
            return None
        try:
            command = psutil.Process(pid).cmdline()
        except psutil.NoSuchProcess:
            return pid
        except psutil.AccessDenied:
            return None
        # One that is just ending has none; another one means that the number was given to another process.
        return pid if not command or str(self._settings) in command else None

    def _owns(self, process: psutil.Process, session: int | None) -> bool:
        # Both signs are needed: vLLM's engine overwrites its environment, and the file of the session can be gone.
        try:
            if process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
                return False
            if os.getsid(process.pid) == session:
                return True
            return process.environ().get("SUPERVISOR_SERVER_URL") == self._url
        except (psutil.Error, OSError):
            return False  # gone meanwhile, or not ours to see


def supervisor_settings(home: Home, parts: list[Part]) -> configparser.RawConfigParser:
    """What supervisord reads."""
    settings = configparser.RawConfigParser()
    settings.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]: names of variables keep their case
    settings["unix_http_server"] = {"file": _escaped(str(home.socket))}
    settings["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    settings["supervisord"] = {
        "logfile": _escaped(str(home.logs / "supervisor.log")),
        "logfile_maxbytes": _LOG_BYTES,
        "pidfile": _escaped(str(home.run / "supervisord.pid")),
        "directory": _escaped(str(home.run)),
    }
    if os.getuid() == 0:
        settings["supervisord"]["user"] = "root"  # said, because unsaid it warns
    for part in parts:
        settings[f"program:{part.name}"] = {
            "command": _escaped(shlex.join(part.command)),
            "environment": _escaped(",".join(f'{name}="{value}"' for name, value in part.environment.items())),
            "autostart": "false",
            "autorestart": "true",
            "startsecs": str(_STEADY_S),
            "startretries": str(_ENDLESS),
            "stopwaitsecs": str(round(part.stop_timeout_s)),
            "stopasgroup": "true",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": _escaped(str(home.logs / f"{part.name}.log")),
            "stdout_logfile_maxbytes": _LOG_BYTES,
            "stdout_logfile_backups": str(_KEPT_LOGS),
        }
    return settings


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        send()


def _escaped(text: str) -> str:
    """Supervisord expands %(name)s."""
    return text.replace("%", "%%")
