"""The settings that are written for Kafka, Redis and Flink."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from forebay_ops.local import provision
from forebay_ops.local.effective import PROFILE
from forebay_ops.local.flink import FlinkServer, flink_command, write_flink
from forebay_ops.local.home import Home
from forebay_ops.local.servers import package_folder, write_kafka, write_redis
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path)


@pytest.fixture
def config() -> Config:
    return load_config(PROFILE)


def _settings(file: Path, separator: str) -> dict[str, str]:
    return dict(line.split(separator, 1) for line in file.read_text().splitlines())


def _sizes(options: str) -> dict[str, int]:
    """Bytes, by the JVM's option."""
    units = {"": 1, "m": 1024**2}
    found = re.findall(r"(-Xmx|-Xms|-XX:Max\w+=)(\d+)(m?)", options)
    return {name: int(count) * units[unit] for name, count, unit in found}


# What the scripts say besides, and the servers start without: it bounds what is not the JVM's, or is a default.
_MADE_UP = {
    "external-resources",
    "jobmanager.memory.off-heap.size",
    "jobmanager.memory.jvm-overhead.min",
    "jobmanager.memory.jvm-overhead.max",
    "taskmanager.memory.jvm-overhead.min",
    "taskmanager.memory.jvm-overhead.max",
}


def test_kafka_takes_records_as_large_as_the_topics_do(config: Config, home: Home) -> None:
    formatted = home.kafka / "data" / "meta.properties"
    formatted.parent.mkdir(parents=True)
    formatted.touch()
    settings = _settings(write_kafka(config, home), "=")
    assert settings["message.max.bytes"] == settings["replica.fetch.max.bytes"] == str(config.kafka.max_wire_bytes)
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["advertised.listeners"] == "PLAINTEXT://localhost:19092"


def test_redis_is_a_bounded_cache(config: Config, home: Home) -> None:
    settings = _settings(write_redis(config, home), " ")
    assert settings["port"] == "16379"
    assert settings["maxmemory-policy"] == "allkeys-lru"
    assert settings["save"] == '""'
    assert "requirepass" not in settings


def test_redis_asks_for_the_password_that_its_address_carries(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_REDIS__URL", "redis://:secret@localhost:16379/0")
    file = write_redis(load_config(PROFILE), home)
    assert _settings(file, " ")["requirepass"] == "secret"
    assert file.stat().st_mode & 0o077 == 0


def test_flink_keeps_the_shipped_java_options(config: Config, home: Home) -> None:
    write_flink(config, home)
    settings = yaml.safe_load((home.flink / "conf" / "config.yaml").read_text())
    assert "--add-opens=java.base/java.nio=ALL-UNNAMED" in settings["env.java.opts.all"]
    assert settings["rest.port"] == 18_081
    assert settings["jobmanager.rpc.port"] == 18_082
    assert settings["taskmanager.numberOfTaskSlots"] == config.flink.parallelism


@pytest.mark.parametrize(
    ("server", "question"),
    [
        (FlinkServer.JOBMANAGER, "GET_JM_RESOURCE_PARAMS"),
        (FlinkServer.TASKMANAGER, "GET_TM_RESOURCE_PARAMS"),
    ],
)
def test_flinks_servers_have_the_memory_that_its_own_scripts_would_give_them(
    config: Config, home: Home, server: FlinkServer, question: str
) -> None:
    write_flink(config, home)
    java, arguments, *rest = flink_command(server, home, {})
    jars = [*(package_folder("pyflink") / "bin").glob("*.jar"), *(home.flink / "lib").glob("*.jar")]
    class_path = ":".join(str(jar) for jar in jars)
    asked = [java, "-cp", class_path, "org.apache.flink.runtime.util.bash.BashJavaUtils", question, *rest]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    scripts, settings = re.findall(r"BASH_JAVA_UTILS_EXEC_RESULT:(.*)", told)
    ours = Path(arguments.removeprefix("@")).read_text()
    assert _sizes(ours) == _sizes(scripts)
    written = yaml.safe_load((home.flink / "conf" / "config.yaml").read_text())
    needed = set(re.findall(r"-D (\S+)=", settings)) - _MADE_UP
    assert needed <= written.keys()


def test_flinks_own_classes_come_last_and_paths_may_hold_spaces(config: Config, tmp_path: Path) -> None:
    home = Home.at(tmp_path / "a b")
    write_flink(config, home)
    java, arguments, *_ = flink_command(FlinkServer.TASKMANAGER, home, {"taskmanager.resource-id": "one"})
    lines = Path(arguments.removeprefix("@")).read_text().splitlines()
    assert "flink-dist" in lines[lines.index('"-classpath"') + 1].rpartition(":")[2]
    shown = [java, "-XshowSettings:properties", arguments, "--version"]
    said = subprocess.run(shown, capture_output=True, text=True, check=False).stderr
    assert f"java.class.path = {home.flink / 'lib'}" in said


def test_flinks_libraries_hold_the_connector_and_follow_its_version(config: Config, home: Home) -> None:
    jars = provision.jar_folder(provision.CONNECTOR, home)
    jars.mkdir(parents=True)
    for version in ("1", "2"):
        for old in jars.iterdir():
            old.unlink()
        (jars / f"connector-{version}.jar").touch()
        write_flink(config, home)
        found = {jar.name for jar in (home.flink / "lib").iterdir()}
        assert {jar for jar in found if jar.startswith("connector")} == {f"connector-{version}.jar"}
        assert any(jar.startswith("flink-dist") for jar in found)
        assert any(jar.startswith("flink-python") for jar in found)


@pytest.mark.parametrize(
    ("variable", "value", "write", "problem"),
    [
        ("FOREBAY_KAFKA__SECURITY_PROTOCOL", "SSL", write_kafka, "take kafka out of local.start"),
        ("FOREBAY_REDIS__URL", "rediss://localhost:16379/0", write_redis, "take redis out of local.start"),
    ],
)
def test_what_a_server_of_this_machine_cannot_speak_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, write: Callable[..., Path], problem: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=problem):
        write(load_config(PROFILE), home)
