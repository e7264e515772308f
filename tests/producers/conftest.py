"""A client on a broker in memory."""

from collections.abc import Iterator

import pytest
from forebay_client import Client, core
from forebay_schemas.config import Config, load_config

from tests.producers.doubles import MemoryKafka


@pytest.fixture
def config() -> Config:
    return load_config()


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> MemoryKafka:
    memory = MemoryKafka()
    monkeypatch.setattr(core, "Outbox", memory.outbox)
    monkeypatch.setattr(core, "Inbox", memory.inbox)
    return memory


@pytest.fixture
def client(kafka: MemoryKafka, config: Config) -> Iterator[Client]:
    with Client("acme", config=config) as client:
        yield client
