"""Gateways on a broker in memory, and OpenAI's clients of them."""

from collections.abc import Iterator

import pytest
from forebay_gateway.brokers import Brokers
from forebay_schemas.config import Config, changed, load_config
from openai import OpenAI

from tests.gateway.running import Gateway, always_there, gateway_on
from tests.producers.conftest import kafka
from tests.producers.doubles import MemoryKafka
from tests.redis_server import RedisServer

__all__ = ["kafka"]


@pytest.fixture
def config() -> Config:
    return changed(load_config(), {"gateway": {"timeout_s": 20}})


@pytest.fixture
def counted(config: Config, redis_server: RedisServer) -> Config:
    """With a Redis, where copies meet."""
    return changed(config, {"redis": {"url": redis_server.url, "timeout_ms": 5_000}})


@pytest.fixture
def copies(kafka: MemoryKafka, counted: Config) -> Iterator[list[Gateway]]:
    with gateway_on(counted) as one, gateway_on(counted) as other:
        yield [one, other]


@pytest.fixture
def gateway(kafka: MemoryKafka, config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setattr(Brokers, "know_the_topic", always_there)
    with gateway_on(config) as running:
        yield running


@pytest.fixture
def openai(gateway: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.url, api_key="none", max_retries=0) as client:
        yield client
