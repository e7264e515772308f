"""A worker that runs on one event loop with its test: model, log, transactions and commands are the test's."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from forebay_schemas.metrics import WorkerMetrics
from forebay_schemas.records import Lane
from forebay_workers import loop
from forebay_workers.answer import Answerer
from forebay_workers.backends import ModelBackend
from forebay_workers.backends.shelf import Shelf
from forebay_workers.connection import Connection
from forebay_workers.handover import Handover
from forebay_workers.lanes import Kind, Line, Room
from forebay_workers.loop import Worker
from forebay_workers.offsets import decode
from forebay_workers.windows import Window
from prometheus_client import CollectorRegistry

from ..samples import total
from .doubles import CODEC, Commands, Log, Model, Publications, Streams, configured

TIERS = """
[tiers.small]
complexity_up_to = 0.5
model = "model"
max_tokens = 100
[tiers.large]
complexity_up_to = 1.0
model = "model"
max_tokens = 100
"""
SETTINGS = f"""
[models.model]
price = {{ input_per_1k = 0.001, output_per_1k = 0.002 }}
{TIERS}
[worker]
commit_interval_ms = 1
drain_timeout_s = 30
"""


class Running:
    """A worker that runs, with everything around it in the test's hands."""

    def __init__(
        self, path: Path, concurrency: int, settings: str = SETTINGS, opened: asyncio.Event | None = None
    ) -> None:
        config = configured(settings, path)
        self.config = config
        self.registry = CollectorRegistry()
        self.rooms = {lane: Room(64) for lane in Lane}
        self.model = Model(concurrency=concurrency)
        self.connections = 0
        self.published = Publications(opened=opened)
        self.streams = Streams()
        worker = config.worker
        line = Line(
            concurrency,
            worker.batch_beside_interactive,
            worker.batch_resume_after_ms,
            Window.of(worker),
            lambda one: Kind(one.tier, "model", True),
        )
        shared = loop.Model(line, self.rooms, {"small": self.model, "large": self.model})
        metrics = WorkerMetrics(self.registry)
        answerer = Answerer(config, CODEC)
        self.opened: dict[str, ModelBackend] = {}
        """Backends of models whose providers have batches of their own."""
        self.handover = Handover(config, Shelf(config, self.opened), answerer.arms, metrics)
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        self.worker = Worker(
            config.worker,
            {"small": self.model, "large": self.model},
            {"small": shared, "large": shared},
            self._connect,
            answerer,
            self.handover,
            self.streams,
            self._listen,
            metrics,
        )
        self.task = asyncio.create_task(self.worker.run(self.stop, self.ready.set))

    def _connect(self) -> Connection:
        """Each connection has logs of its own; what was published on all is kept in one place."""
        self.connections += 1
        self.small = Log("small", Lane.INTERACTIVE, self.rooms[Lane.INTERACTIVE])
        self.batch = Log("small", Lane.BATCH, self.rooms[Lane.BATCH])
        self.large = Log("large", Lane.INTERACTIVE, self.rooms[Lane.INTERACTIVE])
        return Connection([self.small, self.batch, self.large], self.published)

    def _listen(self, on_cancel: Callable[[str], None]) -> Commands:
        self.commands = Commands(on_cancel)
        return self.commands

    async def entered(self, partition: tuple[str, int], offset: int) -> None:
        """Until an attempt on an offset is committed."""
        await self.until(lambda: bool(self.attempts(partition).get(offset)))

    def attempts(self, partition: tuple[str, int]) -> dict[int, int]:
        """What a successor would know of attempts."""
        commit = self.published.commits().get(partition)
        return dict(decode(commit).attempts) if commit else {}

    def done(self, partition: tuple[str, int]) -> tuple[int, set[int]]:
        """What a successor would know to be done: where it continues, and what comes behind that."""
        commit = self.published.commits()[partition]
        return commit.offset, set(decode(commit).done)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.001)

    async def asked(self, *task_ids: str) -> None:
        await self.until(lambda: set(task_ids) <= set(self.model.asked))

    async def committed(self, count: int) -> None:
        await self.until(lambda: len(self.published.replies()) == count)

    def count(self, name: str, **labels: str) -> float:
        return total(self.registry, name, **labels)
