"""The local stack, set up so that what is around its parts can be broken too: networks, disks and clocks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from forebay_ops.local import servers
from forebay_ops.local.ascent import Progress
from forebay_ops.local.effective import free_ports
from forebay_ops.local.home import Home
from forebay_ops.local.parts import Part, common_environment, redis_address
from forebay_ops.local.stack import Stack
from forebay_schemas.config import Config

from ..small_disk import SmallDisk, no_small_disks
from .clocks import Clock, no_clocks
from .links import Network
from .older import OLDER_JOB, older_packages

SETTINGS = Path(__file__).with_name("stack.toml")
"""What people would write of the stack that is broken."""

WORKER, TASKMANAGER, JOBMANAGER, GATEWAY = "worker", "taskmanager", "jobmanager", "gateway"
KAFKA, REDIS = "kafka", "redis"
CLIENTS = "clients"
WORKER_KAFKA, JOB_KAFKA, GATEWAY_KAFKA = "worker - Kafka", "job - Kafka", "gateway - Kafka"
CLIENTS_KAFKA, LEDGER_KAFKA, ROLLOUTS_KAFKA = "clients - Kafka", "ledger - Kafka", "rollouts - Kafka"
JOB_REDIS, GATEWAY_REDIS = "job - Redis", "gateway - Redis"
FLINK = "TaskManager - JobManager"
KEEPER_FLINK = "keeper - JobManager"
CALLERS_GATEWAY = "callers - gateway"
WORKER_MODEL = "worker - model"

KAFKA_DISK, INDEX_DISK = "Kafka", "index"
_DISK_BYTES = 4 * 2**30
"""Twice what hours of the load leave on the larger one."""

_KAFKA = {
    WORKER: WORKER_KAFKA,
    "job": JOB_KAFKA,
    GATEWAY: GATEWAY_KAFKA,
    CLIENTS: CLIENTS_KAFKA,
    "ledger": LEDGER_KAFKA,
    "rollouts": ROLLOUTS_KAFKA,
}
_REDIS = {"job": JOB_REDIS, GATEWAY: GATEWAY_REDIS}
"""Who reaches it, by which link. What the job is submitted with holds in the TaskManager too."""


@dataclass(frozen=True)
class Surroundings:
    """What is around the parts of a stack. Disks and clocks, by the names above, are missing where this machine lets
    nobody have them."""

    network: Network
    disks: dict[str, SmallDisk] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)

    @property
    def gateway_port(self) -> int:
        """At which callers find the gateway."""
        (link,) = self.network.between(CALLERS_GATEWAY)
        return link.port

    def client_settings(self, home: Home) -> dict[str, str]:
        """The environment of a client of the stack in a home."""
        (link,) = self.network.between(CLIENTS_KAFKA)
        clock = self.clocks.get(CLIENTS)
        return {
            "FOREBAY_CONFIG": str(home.config),
            "FOREBAY_KAFKA__BOOTSTRAP": f"127.0.0.1:{link.port}",
            **(clock.environment if clock else {}),
        }


class BreakableStack(Stack):
    """A stack whose parts reach Kafka, Redis and the JobManager through a network; probes go there directly.

    A client of Kafka goes where the broker says that it is, so the broker has a listener for each link, and says that
    it is at the link's other end.

    Args:
        older_job: whether the job is one of an older version, what it is submitted by and what runs it included.
    """

    def __init__(self, home: Home, config: Config, around: Surroundings, *, older_job: bool = False) -> None:
        super().__init__(home, config)
        self._around = around
        self._listeners: dict[str, tuple[int, int]] = {}
        """Where the broker listens for whom, and where it says that it does."""
        self._settings: dict[str, dict[str, str]] = {name: {} for name in _KAFKA}
        for name, between in _KAFKA.items():
            [listens] = free_ports(1)
            port = self._lay(between, listens)
            self._listeners[name] = (listens, port)
            self._settings[name]["FOREBAY_KAFKA__BOOTSTRAP"] = f"127.0.0.1:{port}"
        for name, between in _REDIS.items():
            port = self._lay(between, servers.local_port("redis.url", redis_address(self.config)))
            self._settings[name]["FOREBAY_REDIS__URL"] = f"redis://127.0.0.1:{port}/0"
        (endpoint,) = (model.endpoint for model in self.config.models.values())
        url = urlsplit(str(endpoint and endpoint.url))
        port = self._lay(WORKER_MODEL, url.port or 80)
        self._settings[WORKER]["FOREBAY_MODELS__TOLD__ENDPOINT__URL"] = f"http://127.0.0.1:{port}{url.path}"
        port = self._lay(KEEPER_FLINK, servers.local_port("flink.rest_address", self.config.flink.rest_address))
        self._settings["job"]["FOREBAY_FLINK__REST_ADDRESS"] = f"127.0.0.1:{port}"
        self._lay(CALLERS_GATEWAY, self.config.gateway.port)
        if no_clocks() is None:
            for name in (WORKER, TASKMANAGER, JOBMANAGER, GATEWAY, CLIENTS, KAFKA, REDIS):
                around.clocks[name] = Clock(home.root / "clocks" / name)
                self._settings.setdefault(name, {}).update(around.clocks[name].environment)
        if older_job:
            self._make_job_older()
        flink = self._flink()
        self._parts = [_with(part, self._settings.get(part.name, {}), flink.get(part.name, {})) for part in self._parts]

    def _make_job_older(self) -> None:
        packages = older_packages(self.home.root / OLDER_JOB, "schemas", "jobs")
        path = {"PYTHONPATH": os.pathsep.join([packages, common_environment(self.home)["PYTHONPATH"]])}
        # An older one reads what people write, and does not know each setting that the stack's own file spells out.
        given = {
            "FOREBAY_CONFIG": str(SETTINGS),
            "FOREBAY_FLINK__REST_ADDRESS": self.config.flink.rest_address,
            "FOREBAY_FLINK__CHECKPOINT_DIR": self.config.flink.checkpoint_dir,
            "FOREBAY_SEMANTIC__PATH": str(self.config.semantic.path),
            "FOREBAY_METRICS__JOB_PORT": str(self.config.metrics.job_port),
        }
        for part, settings in (("job", path | given), (TASKMANAGER, path)):
            self._settings.setdefault(part, {}).update(settings)

    def _lay(self, between: str, server_port: int) -> int:
        [port] = free_ports(1)
        self._around.network.lay(between, port, server_port)
        return port

    def _flink(self) -> dict[str, dict[str, int]]:
        """Settings of Flink's servers, each of which calls the other."""
        jobmanager = servers.local_port("flink.rest_address", self.config.flink.rest_address) + 1
        [taskmanager] = free_ports(1)
        to_jobmanager, to_taskmanager = self._lay(FLINK, jobmanager), self._lay(FLINK, taskmanager)
        return {
            JOBMANAGER: {"jobmanager.rpc.port": to_jobmanager, "jobmanager.rpc.bind-port": jobmanager},
            TASKMANAGER: {
                "jobmanager.rpc.port": to_jobmanager,
                "taskmanager.rpc.port": to_taskmanager,
                "taskmanager.rpc.bind-port": taskmanager,
            },
        }

    def another_taskmanager(self, name: str) -> Part:
        """A TaskManager that runs beside that of the stack, as somebody has to start it."""
        (part,) = (one for one in self._parts if one.name == TASKMANAGER)
        rpc, metrics = free_ports(2)
        settings = {
            "taskmanager.rpc.port": rpc,
            "taskmanager.rpc.bind-port": rpc,
            "metrics.reporter.prom.port": metrics,
        }
        return _with(part, {}, {"taskmanager.resource-id": name, **settings})

    def up(self, progress: Progress) -> None:
        try:
            super().up(progress)
        except BaseException:
            self._unmount()
            raise

    def down(self, progress: Progress, purge: bool = False) -> bool:
        was_running = super().down(progress, purge)
        self._unmount()
        return was_running

    def _unmount(self) -> None:
        while self._around.disks:
            self._around.disks.popitem()[1].unmount()

    def _prepare(self, progress: Progress) -> None:
        if no_small_disks() is None:
            for name, folder in ((KAFKA_DISK, self.home.kafka / "data"), (INDEX_DISK, self.home.qdrant)):
                self._around.disks[name] = SmallDisk(folder, _DISK_BYTES)
        super()._prepare(progress)
        port = servers.local_port("kafka.bootstrap", self.config.kafka.bootstrap)
        listens = {"PLAINTEXT": port, "CONTROLLER": port + 1}
        advertised = {"PLAINTEXT": port}
        for name, (own, other_end) in self._listeners.items():
            listens[name.upper()], advertised[name.upper()] = own, other_end
        settings = {
            "listeners": _addresses(listens),
            "advertised.listeners": _addresses(advertised),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listens),
            "inter.broker.listener.name": "PLAINTEXT",
        }
        with (self.home.kafka / "server.properties").open("a") as file:  # where a name is given twice, the last counts
            file.writelines(f"{name}={value}\n" for name, value in settings.items())


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def _with(part: Part, environment: Mapping[str, str], flink: Mapping[str, str | int]) -> Part:
    options = (word for name, value in flink.items() for word in ("-D", f"{name}={value}"))
    return replace(part, command=(*part.command, *options), environment={**part.environment, **environment})
