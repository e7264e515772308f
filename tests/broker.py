"""A real broker for the tests of one module, on free ports and in a folder of its own."""

import logging
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forebay_ops.local import servers
from forebay_ops.local.effective import with_free_ports
from forebay_ops.local.home import Home
from forebay_ops.local.parts import local_parts
from forebay_ops.local.provision import provision
from forebay_schemas.config import load_config

from .left_open import abort_left_open, may_be_left_open

_START_S = 120
_JUST_A_BROKER = '[local]\nstart = ["kafka"]\n'


class Broker:
    """A broker that can be killed and started again, and the configuration that finds it."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        file = folder / "forebay.toml"
        file.write_text(_JUST_A_BROKER + settings)
        self.home = home = Home(folder, installed=Path(__file__).parents[1] / ".forebay")
        self.config = with_free_ports(load_config(file))
        provision(self.config, home, logging.info)
        servers.write_kafka(self.config, home)
        (self._part,) = local_parts(self.config, home)
        self._log = folder / "kafka.log"

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._part.command, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + _START_S
        while not self._part.ready():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, self._log.read_text()
            threading.Event().wait(0.1)

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.kill()
        self._process.wait()

    @contextmanager
    def forgiven(self, silence: type[AssertionError]) -> Iterator[None]:
        """Around what has to survive a kill of this broker. See docs/chaos.md on a broker that is alone: one that comes
        back may leave a transaction open for ever, and with it what lies behind, whatever its clients do.

        Args:
            silence: is raised where something does not come. Nothing else is forgiven.
        """
        told = self._log.stat().st_size
        try:
            yield
        except silence:
            if may_be_left_open(self._log, told) or abort_left_open(self.config, self.home):
                pytest.xfail("Kafka has not told the partitions of a transaction that it ended long ago")
            raise
