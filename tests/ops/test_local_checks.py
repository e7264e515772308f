"""What keeps a stack from starting is said before anything starts: what it is, and how to mend it."""

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from forebay_ops.local.checks import check_machine
from forebay_ops.local.effective import PROFILE, with_free_ports
from forebay_ops.local.home import Home
from forebay_ops.local.parts import Part, elsewhere, local_parts
from forebay_schemas.config import load_config
from forebay_schemas.errors import ConfigError


@pytest.fixture
def home(tmp_path: Any) -> Home:
    return Home.at(tmp_path / "new" / "er")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _part(name: str = "kafka", port: int | None = None, memory_mb: int = 1) -> Part:
    ports = {} if port is None else {"kafka.bootstrap": port}
    return Part(name, ("true",), "nowhere", lambda: True, memory_mb, ports=ports)


def test_a_machine_with_room_passes(home: Home) -> None:
    check_machine(home, [_part()], [])


def test_a_taken_port_is_named_with_its_part_its_setting_and_who_has_it(home: Home, taken: int) -> None:
    with pytest.raises(ConfigError) as caught:
        check_machine(home, [_part(port=taken)], [])
    message = str(caught.value)
    assert f"kafka: port {taken} (kafka.bootstrap) is taken by" in message
    assert f"pid {psutil.Process().pid}" in message
    assert "configure another port" in message


def test_everything_that_is_wrong_is_said_at_once(home: Home, taken: int) -> None:
    with pytest.raises(ConfigError) as caught:
        check_machine(home, [_part(port=taken), _part("worker", memory_mb=10**9)], [])
    assert "kafka: port" in str(caught.value)
    assert "memory:" in str(caught.value)


def test_too_little_memory_names_what_each_part_needs(home: Home) -> None:
    with pytest.raises(
        ConfigError, match=r"1000000000 MB are needed \(worker 1000000000\).*take it out of local.start"
    ):
        check_machine(home, [_part("worker", memory_mb=10**9)], [])


def test_too_little_disk_names_the_folder(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    with pytest.raises(ConfigError, match=f"{home.root}: 5 MB of disk space are left.*make room, or set FOREBAY_HOME"):
        check_machine(home, [_part()], [])


def test_a_server_that_is_not_started_here_must_answer(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_LOCAL__START", "[]")
    config = with_free_ports(load_config(PROFILE))
    with pytest.raises(ConfigError) as caught:
        check_machine(home, [], elsewhere(config))
    message = str(caught.value)
    assert f"nothing answers at {config.kafka.bootstrap} (kafka.bootstrap)" in message
    assert "(redis.url)" in message
    assert f"nothing answers at {config.flink.rest_address} (flink.rest_address)" in message


def test_a_part_cannot_be_started_at_an_address_elsewhere(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_KAFKA__BOOTSTRAP", "broker-7:9092,broker-8:9092")
    with pytest.raises(ConfigError, match=r"kafka.bootstrap: broker-7:9092.*take the part out of local.start"):
        local_parts(load_config(PROFILE), home)
