"""The one folder that holds a local stack: where everything in it lies, and whether a stack runs in it."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from forebay_schemas.errors import ConfigError

_MAX_SOCKET_PATH_BYTES = 100
"""Linux allows 107 for a unix socket; supervisord binds a name a few digits longer first."""


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one state folder.

    Attributes:
        root: the folder, absolute. Two stacks with a folder each, and ports of their own, run side by side.
        installed: what provisioning made and every stack can share: jars and models.
    """

    root: Path
    installed: Path

    @classmethod
    def at(cls, root: Path | str | None = None, installed: Path | str | None = None) -> "Home":
        """The folder ``root``, else that of ``FOREBAY_HOME``, else ``./.forebay``.

        Raises:
            ConfigError: the path is too long for the supervisor's socket.
        """
        path = Path(root or os.environ.get("FOREBAY_HOME") or ".forebay").expanduser().resolve()
        home = cls(path, Path(installed).resolve() if installed else path)
        length = len(os.fsencode(home.socket))
        if length > _MAX_SOCKET_PATH_BYTES:
            raise ConfigError(
                f"FOREBAY_HOME: {path} is too long, the socket in it would have a path of {length} bytes"
                f" where {_MAX_SOCKET_PATH_BYTES} are possible; choose a shorter folder"
            )
        return home

    @property
    def config(self) -> Path:
        """The effective configuration of the stack: what every part is given as ``FOREBAY_CONFIG``."""
        return self.root / "forebay.toml"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What a running stack needs to be found: sockets, process ids, generated settings."""
        return self.root / "run"

    @property
    def socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def lock(self) -> Path:
        """Held by the one command that brings the stack up or down."""
        return self.root / "lock"

    @property
    def kafka(self) -> Path:
        return self.root / "kafka"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def flink(self) -> Path:
        return self.root / "flink"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def qdrant(self) -> Path:
        return self.root / "qdrant"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger"

    @property
    def jars(self) -> Path:
        return self.installed / "jars"

    @property
    def models(self) -> Path:
        return self.installed / "models"

    @property
    def state(self) -> tuple[Path, ...]:
        """What ``forebay down --purge`` deletes: everything but what is installed."""
        return (
            self.logs, self.run, self.kafka, self.redis, self.flink, self.checkpoints, self.qdrant, self.ledger,
            self.config, self.lock,
        )  # fmt: skip


def is_supervised(home: Home) -> bool:
    """Whether a supervisor answers on the home's socket; a dead one leaves the socket behind."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(home.socket))
        except OSError:
            return False
    return True


def running_config(home: Home) -> Path | None:
    """The configuration of the stack that runs in a home, or None where none runs."""
    return home.config if is_supervised(home) and home.config.is_file() else None
