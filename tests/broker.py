"""A real broker for the tests of one module, on free ports and in a folder of its own."""

import logging
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from confluent_kafka.admin import AdminClient  # pyright: ignore[reportPrivateImportUsage]
from forebay_ops.local import servers
from forebay_ops.local.effective import with_free_ports
from forebay_ops.local.home import Home
from forebay_ops.local.parts import local_parts
from forebay_ops.local.provision import provision
from forebay_ops.topics import create_topics
from forebay_schemas.config import Config, load_config
from py4j.protocol import Py4JError

from .left_open import abort_left_open
from .waiting import eventually

B = TypeVar("B", bound="Broker")
_START_S = 120
_LOOK_EVERY_S = 15.0
_JUST_A_BROKER = '[local]\nstart = ["kafka"]\n'


@contextmanager
def running_broker(folder: Path) -> Iterator["Broker"]:
    """One that is killed when the block is left."""
    with running(Broker(folder)) as broker:
        yield broker


@contextmanager
def running(broker: B) -> Iterator[B]:
    """Start a broker, of any kind, and kill it when the block is left."""
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


def make_anew(config: Config, topic: str) -> None:
    """Delete a topic, and make it again as soon as its name is free."""
    admin = AdminClient(config.kafka.client())
    [deleted] = admin.delete_topics([topic]).values()
    deleted.result()
    eventually(lambda: topic in create_topics(config).created, f"{topic} is made anew")


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
    def attended(self) -> Iterator[None]:
        """Around what has to survive a kill of this broker: somebody ends what only an operator can.

        See docs/chaos.md on a broker that is alone: one that comes back may leave a transaction open for ever.
        """
        left = threading.Event()

        def attend() -> None:
            while not left.wait(_LOOK_EVERY_S):
                with suppress(Py4JError):  # the broker is not back yet
                    abort_left_open(self.config, self.home)

        operator = threading.Thread(target=attend)
        operator.start()
        try:
            yield
        finally:
            left.set()
            operator.join()
