"""One real stack for all end-to-end tests: Kafka, Redis, Flink, the job, and a vLLM worker, as processes."""

import json
import logging
import shutil
import tempfile
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from forebay_client import Client
from forebay_ops.local.effective import with_free_ports
from forebay_ops.local.home import Home
from forebay_ops.local.stack import Stack
from forebay_ops.local.tiny_model import make_tiny_model
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import Reply
from forebay_schemas.sections import TracingConfig
from prometheus_client.samples import Sample

from ..samples import served
from .collector import Collector

_ROOT = Path(__file__).parents[2]
SETTINGS = Path(__file__).with_name("stack.toml")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.stack)


@dataclass(frozen=True)
class RunningStack:
    """A stack that is up, and how tests look into it."""

    stack: Stack
    config: Config
    collector: Collector
    """Gets the spans of requests whose trace is recorded by their sender."""

    def client(self, **settings: Any) -> Client:
        return Client(config=self.config, **settings)

    def samples(self, part: str) -> list[Sample]:
        """What ``job``, ``worker`` or ``ledger`` serve; nothing while it does not."""
        return served(getattr(self.config.metrics, f"{part}_port"))

    def total(self, part: str, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have the labels; 0 while the part does not serve it."""
        samples = [sample for sample in self.samples(part) if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def replies(self) -> list[Reply]:
        """All that is on the reply topic, as a reader of committed records in any language sees it."""
        topic = self.config.kafka.topics.replies
        settings = {"group_id": uuid.uuid4().hex, "isolation_level": "read_committed", "enable_partition_eof": True}
        consumer = Consumer(self.config.kafka.client(**settings))
        unread = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
        replies: list[Reply] = []
        while unread:
            message = consumer.poll(10)
            assert message is not None, f"partitions {unread} of {topic} give nothing"
            if (error := message.error()) is None:
                replies.append(Codec().decode(message.value() or b"", Reply))
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
        consumer.close()
        return replies

    def engine(self) -> list[psutil.Process]:
        """The processes that the worker's engine consists of."""
        return psutil.Process(self.stack.pid("worker")).children(recursive=True)

    def rest(self, path: str) -> Any:
        """What Flink's REST interface says, or None while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self.config.flink.rest_address}{path}", timeout=2) as response:
                return json.loads(response.read())
        except OSError:
            return None


class _Progress:
    """Shows what the stack is doing in pytest's captured output."""

    _last = ""

    def doing(self, what: str) -> None:
        if what != self._last:
            logging.info("%s", what)
            self._last = what

    def done(self, what: str) -> None:
        logging.info("%s", what)


@contextmanager
def stack_up(
    config: Config, logs: str = "end-to-end-logs", stack_of: Callable[[Home, Config], Stack] = Stack
) -> Iterator[RunningStack]:
    """A stack on free ports; at the end it is taken down, and its logs are kept for whoever looks into a failure.

    Args:
        logs: the folder in `.forebay` where they are kept.
        stack_of: makes the stack of a home.
    """
    kept = _ROOT / ".forebay" / logs
    root = Path(tempfile.mkdtemp(prefix="forebay-"))  # short: a socket's path has a limit
    home = Home.at(root, installed=_ROOT / ".forebay")
    progress = _Progress()
    with Collector() as collector:
        tracing = TracingConfig(endpoint=collector.endpoint, sample_ratio=0)
        stack = stack_of(home, with_free_ports(config).model_copy(update={"tracing": tracing}))
        stack.up(progress)
        try:
            yield RunningStack(stack, stack.config, collector)
        finally:
            stack.down(progress)
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(home.logs, kept)
            assert stack.orphans() == 0
            shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The stack that most tests share."""
    config = load_config(SETTINGS)
    weights = str(make_tiny_model(tmp_path_factory.mktemp("tiny-model")))
    tiny = config.models["tiny"].model_copy(update={"weights": weights})
    with stack_up(config.model_copy(update={"models": {**config.models, "tiny": tiny}})) as up:
        yield up
