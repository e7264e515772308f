"""Writes Flink's settings for one machine, and says how its servers are run.

Flink's own scripts start four JVMs one after the other to work a command line out, at each start anew: seconds in which
a TaskManager that was killed is not back. All that they work out follows from settings that are written here.
"""

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from forebay_schemas.config import Config

from .home import Home
from .provision import CONNECTOR, jar_folder
from .servers import java_home, package_folder

_METASPACE_MB = 256
_FRAMEWORK_MB = 128
"""Of Flink itself in a TaskManager, on the heap and the same again beside it."""
# What a TaskManager's JVM itself uses. Torch and the embedded index take their memory beside it, unseen by Flink.
_TASK_HEAP_MB, _NETWORK_MB, _MANAGED_MB = 384, 64, 64
_JOBMANAGER_HEAP_MB = 324
_OVERHEAD_MB = 192
"""What Flink takes the JVM to need for itself; it only tells this, and starts with nothing less said."""


class FlinkServer(StrEnum):
    """A server, by the class that it runs."""

    JOBMANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
    TASKMANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"


_MEMORY = {
    FlinkServer.JOBMANAGER: (f"-Xms{_JOBMANAGER_HEAP_MB}m", f"-Xmx{_JOBMANAGER_HEAP_MB}m"),
    FlinkServer.TASKMANAGER: (
        f"-Xms{_FRAMEWORK_MB + _TASK_HEAP_MB}m",
        f"-Xmx{_FRAMEWORK_MB + _TASK_HEAP_MB}m",
        f"-XX:MaxDirectMemorySize={_FRAMEWORK_MB + _NETWORK_MB}m",
    ),
}

PROMETHEUS_REPORTER = "org.apache.flink.metrics.prometheus.PrometheusReporterFactory"
"""Serves Flink's own metrics; it is among the plugins that Flink's package carries."""

_LOGGING = """\
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


def write_flink(config: Config, home: Home) -> None:
    """Write Flink's settings, and the folder of links that adds Python and the Kafka connector to its libraries."""
    shipped = package_folder("pyflink")
    java_options = yaml.safe_load((shipped / "conf" / "config.yaml").read_text())["env"]["java"]["opts"]["all"]
    settings = {"env.java.opts.all": java_options, **_settings(config, home)}
    conf, tmp = home.flink / "conf", home.flink / "tmp"
    for folder in (conf, tmp):
        folder.mkdir(parents=True, exist_ok=True)
    (conf / "config.yaml").write_text(yaml.safe_dump(settings, width=10_000))
    for name in ("log4j-console.properties", "log4j-cli.properties"):
        (conf / name).write_text(_LOGGING)
    # With Flink's Python in the libraries it is loaded once in a process; in a job's own jars it would be once a job,
    # and its native part can be loaded only once.
    python = (shipped / "opt").glob("flink-python-*.jar")
    connector = jar_folder(CONNECTOR, home).glob("*.jar")
    jars = _link_jars(home.flink / "lib", [*(shipped / "lib").glob("*.jar"), *python, *connector])
    for server in FlinkServer:
        options = [*java_options.split(), *_jvm_options(server, conf), "-classpath", ":".join(jars), server.value]
        _arguments_file(server, home).write_text("".join(f"{_quoted(option)}\n" for option in options))


def flink_command(server: FlinkServer, home: Home, settings: Mapping[str, str | int]) -> tuple[str, ...]:
    """Runs a server in the foreground, with settings of its own besides those of its folder."""
    options = (word for name, value in settings.items() for word in ("-D", f"{name}={value}"))
    java = str(java_home() / "bin" / "java")
    return (java, f"@{_arguments_file(server, home)}", "--configDir", str(home.flink / "conf"), *options)


def _arguments_file(server: FlinkServer, home: Home) -> Path:
    return home.flink / "conf" / f"{server.name.lower()}.args"


def _jvm_options(server: FlinkServer, conf: Path) -> list[str]:
    return [
        *_MEMORY[server],
        f"-XX:MaxMetaspaceSize={_METASPACE_MB}m",
        "-Djava.security.manager=allow",
        f"-Dlog4j.configurationFile={(conf / 'log4j-console.properties').as_uri()}",
    ]


def _quoted(option: str) -> str:
    """As java reads it in a file of arguments."""
    return '"' + option.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _settings(config: Config, home: Home) -> dict[str, Any]:
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
        "jobmanager.memory.heap.size": f"{_JOBMANAGER_HEAP_MB}m",
        "jobmanager.memory.jvm-metaspace.size": f"{_METASPACE_MB}m",
        "taskmanager.host": "localhost",
        "taskmanager.bind-host": "localhost",
        "taskmanager.numberOfTaskSlots": config.flink.parallelism,
        # A TaskManager takes no defaults for these: its scripts are to have said each.
        "taskmanager.cpu.cores": float(config.flink.parallelism),
        "taskmanager.memory.framework.heap.size": f"{_FRAMEWORK_MB}m",
        "taskmanager.memory.framework.off-heap.size": f"{_FRAMEWORK_MB}m",
        "taskmanager.memory.task.heap.size": f"{_TASK_HEAP_MB}m",
        "taskmanager.memory.task.off-heap.size": "0m",
        "taskmanager.memory.managed.size": f"{_MANAGED_MB}m",
        "taskmanager.memory.network.min": f"{_NETWORK_MB}m",
        "taskmanager.memory.network.max": f"{_NETWORK_MB}m",
        "taskmanager.memory.jvm-metaspace.size": f"{_METASPACE_MB}m",
        "taskmanager.memory.jvm-overhead.min": f"{_OVERHEAD_MB}m",
        "taskmanager.memory.jvm-overhead.max": f"{_OVERHEAD_MB}m",
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


def _link_jars(folder: Path, jars: list[Path]) -> list[str]:
    """The links in the order of a class path: by name, Flink itself last."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for jar in jars:
        (folder / jar.name).symlink_to(jar)
    names = sorted((jar.name for jar in jars), key=lambda name: (name.startswith("flink-dist"), name))
    return [str(folder / name) for name in names]
