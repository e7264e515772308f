"""`forebay topics` on a real broker: what others make at the same moment is no failure."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forebay_ops import topics

from tests.broker import Broker, running_broker

pytestmark = pytest.mark.stack


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as broker:
        yield broker


def test_topics_that_somebody_makes_meanwhile_are_kept_and_checked(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = broker.config.kafka.model_copy(update={"topic_prefix": "meanwhile"})
    config = broker.config.model_copy(update={"kafka": kafka})
    create = topics._create

    def beaten(admin: Any, specs: list[Any], replication_factor: int) -> set[str]:
        create(admin, specs[:2], replication_factor)
        return create(admin, specs, replication_factor)

    monkeypatch.setattr(topics, "_create", beaten)
    names = [spec.name for spec in topics.topic_specs(config)]
    report = topics.create_topics(config)
    assert (list(report.kept), list(report.created)) == (names[:2], names[2:])
    assert list(topics.create_topics(config).kept) == names
