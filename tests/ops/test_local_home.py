"""The state folder: where it is, and how a running stack is found through it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from forebay_ops.local.home import Home, running_config
from forebay_schemas.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.at(tmp_path / "home")
    home.run.mkdir(parents=True)
    home.config.write_text("")
    return home


@pytest.fixture
def listening(home: Home) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home.socket))
        server.listen()
        yield server


def test_everything_lies_in_the_one_folder(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    for path in (*home.state, home.socket, home.jars, home.models):
        assert tmp_path in path.parents


def test_purging_spares_what_is_installed(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    for installed in (home.jars, home.models):
        assert not any(installed.is_relative_to(path) for path in home.state)


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_HOME", str(tmp_path / "named"))
    assert Home.at().root == tmp_path / "named"
    assert Home.at(tmp_path / "given").root == tmp_path / "given"


def test_without_a_name_it_is_beside_the_caller(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("home")  # a short path
    monkeypatch.delenv("FOREBAY_HOME", raising=False)
    monkeypatch.chdir(here)
    assert Home.at().root == here / ".forebay"


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"FOREBAY_HOME.*choose a shorter folder"):
        Home.at(tmp_path / ("long" * 30))


def test_homes_can_share_what_is_installed(tmp_path: Path) -> None:
    one, other = (Home.at(tmp_path / name, installed=tmp_path / "shared") for name in ("one", "other"))
    assert one.jars == other.jars
    assert one.kafka != other.kafka


def test_a_stack_that_runs_is_found(home: Home, listening: socket.socket) -> None:
    assert running_config(home) == home.config


def test_a_socket_that_a_dead_stack_left_is_no_stack(home: Home, listening: socket.socket) -> None:
    listening.close()
    assert home.socket.exists()
    assert running_config(home) is None


def test_an_empty_folder_is_no_stack(tmp_path: Path) -> None:
    assert running_config(Home.at(tmp_path)) is None
