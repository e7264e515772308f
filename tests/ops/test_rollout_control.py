"""The controller knows what it does not know yet, and mends what others left behind."""

from typing import Any

import pytest
from forebay_ops.rollouts.observing import Observer
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config, load_config
from forebay_schemas.rollouts import Guards, Rollout, Stage, Step

from tests.builders import NOW_MS, make_reply

from .kafka_in_memory import Kafka

LIMITS = Guards(min_minutes=0, min_replies=100)


def rollout(name: str = "terse", **fields: Any) -> Rollout:
    values: dict[str, Any] = {
        "version": 1,
        "overrides": {"tiers.small.system_prompt": '"Be brief."'},
        "stage": Stage.TEN,
        "started_ms": NOW_MS,
        "since_ms": NOW_MS,
        "guards": LIMITS,
        "history": [Step(at_ms=NOW_MS, who="ada", what="start", stage=Stage.TEN, why="")],
    }
    return Rollout(name=name, **values | fields)


@pytest.fixture
def config() -> Config:
    config = load_config()
    return config.model_copy(update={"metrics": config.metrics.model_copy(update={"rollouts_port": 0})})


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    return Kafka(monkeypatch)


def test_evidence_is_whole_when_all_is_read_that_was_there(kafka: Kafka, config: Config) -> None:
    replies = config.kafka.topics.replies
    kafka.at_once = 2
    kafka.write(replies, *(Codec().encode(make_reply(request_id=f"r{number}")) for number in range(3)))
    observer = Observer(config)
    observer.follow({"terse": rollout()})
    kafka.write(replies, Codec().encode(make_reply(request_id="later")))
    whole = [observer.caught_up]
    for _ in range(2):
        observer.read(0)
        whole.append(observer.caught_up)
    assert whole == [False, False, True]
