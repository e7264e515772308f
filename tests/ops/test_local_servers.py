"""The settings that are written for Kafka, Redis and Flink."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from forebay_ops.local import provision
from forebay_ops.local.effective import PROFILE
from forebay_ops.local.home import Home
from forebay_ops.local.servers import write_flink, write_kafka, write_redis
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
