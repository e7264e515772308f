"""The running stack with its load, and the states of it in which a fault is worth injecting."""

import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import redis
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # pyright: ignore[reportPrivateImportUsage]
from forebay_ops.local.probes import job_runs
from forebay_ops.local.stack import PartState
from forebay_schemas.config import load_config
from forebay_schemas.sections import WorkerConfig
from py4j.protocol import Py4JError

from ..end_to_end.conftest import RunningStack, stack_up
from ..left_open import abort_left_open, may_be_left_open
from ..waiting import eventually
from .breakable import SETTINGS, BreakableStack, Surroundings
from .checker import Checker
from .links import Network
from .load import RATE_PER_S, SERVICES, Load, under_load
from .model import Model, served_model
from .second_taskmanager import SecondTaskManager
from .second_worker import SecondWorker

_LOOKS = 3
"""A transaction whose producer stands still is open for as many looks; one that was being ended is not."""


@dataclass
class Scene:
    """What a fault gets its hands on."""

    running: RunningStack
    model: Model
    checker: Checker
    load: Load
    around: Surroundings
    admin: AdminClient = field(init=False)
    second: SecondWorker = field(init=False)
    second_taskmanager: SecondTaskManager = field(init=False)
    redis: Any = field(init=False)
    """Its server, as an operator reaches it."""
    broken_s: float = 0.0
    """When the last fault was injected."""
    _signalled: int = 0
    _kafka_told: int = 0
    """How much the broker had logged then."""

    def __post_init__(self) -> None:
        config = self.running.config
        self.anew()
        self.second = SecondWorker(config, self.running.stack.home, lambda: self.admin)
        self.second_taskmanager = SecondTaskManager(self.running)
        self._kafka_log = self.running.stack.home.logs / "kafka.log"
        self.redis = redis.Redis.from_url(config.redis.url.get_secret_value())

    # What it does

    def signal(self, part: str, number: signal.Signals) -> None:
        """Send a signal to a part's process."""
        os.kill(self.watch(part), number)

    def watch(self, part: str) -> int:
        """The process of a part; whether it still runs is asked for."""
        self._signalled = self.pid(part)
        return self._signalled

    def anew(self) -> None:
        """Have an own client of the brokers that was there for no fault yet: one that asked where a lone broker was in
        the moment after a freeze in which the cluster had none finds it no more (librdkafka 2.16)."""
        self.admin = AdminClient(self.running.config.kafka.client() | {"log_level": 0})

    def mark(self) -> None:
        """A fault is about to be injected."""
        self.broken_s = time.monotonic()
        self._kafka_told = self._kafka_log.stat().st_size

    def abort_left_open(self) -> bool:
        """End what transactions Kafka left open since the fault, as only an operator can; whether there were any."""
        home = self.running.stack.home
        if not may_be_left_open(self._kafka_log, self._kafka_told):
            return False
        try:
            return abort_left_open(self.running.config, home) > 0
        except Py4JError:  # a broker that is not back yet
            return False

    def pid(self, part: str) -> int:
        """The process of a part, as soon as one runs."""
        return eventually(lambda: self.running.stack.pid(part), f"{part} runs")

    # How it is

    def another_runs(self, part: str) -> bool:
        """Whether a part's process is not the one any more that got the last signal, or was watched last."""
        return self.running.stack.pid(part) not in (None, self._signalled)

    def signalled_runs(self) -> bool:
        """Whether the process that got the last signal, or was watched last, is there."""
        return psutil.pid_exists(self._signalled)

    def calm(self) -> bool:
        """Whether every part does its work, and no more is in flight than the load makes in two seconds."""
        return len(self.checker.in_flight()) < 2 * SERVICES * RATE_PER_S and self.all_up()

    def broken_for_s(self) -> float:
        """Since the last fault was injected."""
        return time.monotonic() - self.broken_s

    def answered_since_broken(self) -> bool:
        """Whether a request that was sent since then by each client has its reply."""
        return self.checker.answered_since(self.broken_s)

    def index_up(self) -> bool:
        """Whether the job has its index of questions."""
        return self.running.total("job", "forebay_store_up", store="qdrant") == 1

    def caught_up_since_broken(self) -> bool:
        """Whether all is answered that was asked before the last fault was injected, and since then by each client."""
        return self.checker.answered_before(self.broken_s) and self.answered_since_broken()

    def job_is_older(self) -> bool:
        """Whether the job is of the older version, by what it says of a metric."""
        with urllib.request.urlopen(f"http://localhost:{self.running.config.metrics.job_port}/metrics") as page:
            return b"earlier (for its asker alone)" not in page.read()

    def job_runs(self) -> bool:
        """Whether the job runs with every one of its tasks."""
        return job_runs(self.running.config)

    def all_up(self) -> bool:
        """Whether every part does its work."""
        return all(part.state is PartState.UP for part in self.running.stack.status())

    def idle(self) -> bool:
        """The load pauses, and all that was asked is answered."""
        self.load.pause()
        return not self.checker.in_flight() and not self.load.callers.calling

    def generating(self) -> bool:
        """The model writes answers."""
        return self.model.writing > 0

    def calling(self) -> bool:
        """A caller waits for the gateway, and the model writes."""
        return self.load.callers.calling and self.generating()

    def batch_half_done(self) -> bool:
        """A batch has answers to some of its rows."""
        return self.load.nightly.half_done()

    def checkpoint_half_done(self) -> bool:
        """The job writes a checkpoint, and has one to go back to."""
        jobs = (self.running.rest("/jobs/overview") or {}).get("jobs", [])
        alive = [job["jid"] for job in jobs if job["state"] == "RUNNING"]
        counts = (self.running.rest(f"/jobs/{alive[0]}/checkpoints") or {}).get("counts", {}) if alive else {}
        return counts.get("in_progress", 0) > 0 and counts.get("completed", 0) > 0

    def stopped_in_transaction(self) -> bool:
        """The worker is stopped while replies of it are on their topic and not committed; else it goes on."""
        self.signal("worker", signal.SIGSTOP)
        if all(self._transaction_is_open() for _ in range(_LOOKS)):
            return True
        self.signal("worker", signal.SIGCONT)
        return False

    def _transaction_is_open(self) -> bool:
        """Whether readers of committed records see less of the reply topic than there is."""
        topic = self.running.config.kafka.topics.replies
        newest: Any = OffsetSpec.latest()
        partitions = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
        places = {TopicPartition(topic, number): newest for number in partitions}
        committed, written = [
            sum(place.result().offset for place in self.admin.list_offsets(places, isolation_level=level).values())
            for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
        ]
        return committed < written


@contextmanager
def staged(
    concurrency: int | None = None, deadline_s: float | None = None, *, older_job: bool = False
) -> Iterator[Scene]:
    """The stack, up and under load. When the block is left, the load ends in order.

    Args:
        concurrency: answers that the model writes at once, and none of the batch lane while interactive requests want
            them; absent: what ``stack.toml`` says.
        deadline_s: of the services' interactive requests; absent: they have none.
        older_job: whether the job is one of an older version.
    """
    config = load_config(SETTINGS)
    if concurrency is not None:
        config = config.model_copy(update={"worker": WorkerConfig()})
    with served_model() as model, Network() as network:
        around = Surroundings(network)
        told = config.models["told"]
        assert told.endpoint is not None
        changed = {"url": model.url, "concurrency": concurrency or told.endpoint.concurrency}
        endpoint = told.endpoint.model_copy(update=changed)
        models = {"told": told.model_copy(update={"endpoint": endpoint})}
        with (
            stack_up(
                config.model_copy(update={"models": models}),
                "chaos-logs",
                stack_of=lambda home, config: BreakableStack(home, config, around, older_job=older_job),
            ) as running,
            Checker(running.config, older_job=older_job) as checker,
            under_load(running.config, running.stack.home, around, checker, deadline_s) as load,
        ):
            scene = Scene(running, model, checker, load, around)
            try:
                yield scene
            finally:
                scene.second.leave()
                scene.second_taskmanager.leave()
