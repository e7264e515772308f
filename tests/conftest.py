"""What holds for every test: no trace in the environment, and the same generated examples on every run. And what tests
of several folders share: recorded spans, a real Redis."""

import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from .recorded import Recorded
from .redis_server import RedisServer, redis_binary

# `make quick` makes do with few.
for name, examples in {"few": 10, "many": 50}.items():
    settings.register_profile(name, derandomize=True, deadline=None, database=None, max_examples=examples)
settings.load_profile("many")


class _ByServers(LoadFileScheduling):
    """One process has a file to itself, with the servers that its tests share; one has the whole stacks."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "stacks" if file.startswith(("tests/end_to_end/", "tests/chaos/")) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Who shares out the tests where ``--dist loadfile`` is asked for."""
    return _ByServers(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def _environment_restored() -> Iterator[None]:
    with mock.patch.dict(os.environ):  # load_config names its file there, for the processes started from here
        yield


@pytest.fixture(scope="session")
def _recorded_by_all() -> Recorded:
    return Recorded()  # one for all tests: each part that traces has a thread for as long as the process lives


@pytest.fixture
def recorded(_recorded_by_all: Recorded) -> Recorded:
    """The spans of configurations that are ``recorded.tracing``."""
    _recorded_by_all.forget()
    return _recorded_by_all


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The server of all tests."""
    server = RedisServer(redis_binary(), tmp_path_factory.mktemp("r"))
    yield server
    server.kill()


@pytest.fixture
def redis_server(redis_process: RedisServer) -> Iterator[RedisServer]:
    """The server, empty and awake, whatever the test before did to it."""
    redis_process.client().flushall()
    yield redis_process
    redis_process.thaw()
