"""A real broker, topics of one test on it, and what stands in for job and workers."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from forebay_ops.local.effective import write_settings
from forebay_ops.topics import create_topics
from forebay_schemas.config import Config, load_config

from tests.broker import Broker, running_broker

from .stand_in import StandIn


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def settings(broker: Broker, tmp_path: Path) -> Path:
    """A file that names the broker and topics of the test's own, which exist."""
    kafka = broker.config.kafka.model_copy(update={"topic_prefix": f"llm-{uuid.uuid4().hex}"})
    config = broker.config.model_copy(update={"kafka": kafka})
    create_topics(config)
    write_settings(config, tmp_path / "forebay.toml")
    return tmp_path / "forebay.toml"


@pytest.fixture
def config(settings: Path) -> Config:
    """What the file says."""
    return load_config(settings)


@pytest.fixture
def pipeline(config: Config) -> Iterator[StandIn]:
    with StandIn(config) as pipeline:
        yield pipeline
