"""One real stack for all end-to-end tests: Kafka, Redis, Flink, the job, and a vLLM worker, as processes."""

import json
import logging
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forebay_client import Client
from forebay_ops.local.effective import with_free_ports
from forebay_ops.local.home import Home
from forebay_ops.local.stack import Stack
from forebay_ops.local.tiny_model import make_tiny_model
from forebay_schemas.config import Config, load_config
from forebay_schemas.sections import TracingConfig
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from .collector import Collector

_ROOT = Path(__file__).parents[2]
SETTINGS = Path(__file__).with_name("stack.toml")
_LOGS = _ROOT / ".forebay" / "end-to-end-logs"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.stack)


def eventually(condition: Callable[[], Any], what: str, timeout_s: float = 120.0, poll_s: float = 0.02) -> Any:
    """Wait until a condition gives something true, and return that; fail with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(poll_s)
    raise AssertionError(f"after {timeout_s:g} s still not: {what}")


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
        address = f"http://localhost:{getattr(self.config.metrics, f'{part}_port')}/metrics"
        # As Prometheus asks: for exemplars, and for names with colons as they are.
        accepted = {"Accept": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"}
        try:
            with urllib.request.urlopen(urllib.request.Request(address, headers=accepted), timeout=2) as response:
                families = list(text_string_to_metric_families(response.read().decode()))
        except OSError:
            return []
        return [sample for family in families for sample in family.samples]

    def total(self, part: str, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have the labels; 0 while the part does not serve it."""
        samples = [sample for sample in self.samples(part) if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

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
def stack_up(config: Config) -> Iterator[RunningStack]:
    """A stack on free ports; at the end it is taken down, and its logs are kept for whoever looks into a failure."""
    root = Path(tempfile.mkdtemp(prefix="forebay-"))  # short: a socket's path has a limit
    home = Home.at(root, installed=_ROOT / ".forebay")
    progress = _Progress()
    with Collector() as collector:
        tracing = TracingConfig(endpoint=collector.endpoint, sample_ratio=0)
        stack = Stack(home, with_free_ports(config).model_copy(update={"tracing": tracing}))
        stack.up(progress)
        try:
            yield RunningStack(stack, stack.config, collector)
        finally:
            stack.down(progress)
            shutil.rmtree(_LOGS, ignore_errors=True)
            shutil.copytree(home.logs, _LOGS)
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
