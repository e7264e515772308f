"""The worker loop: who holds a task at each moment, and when its offset may move.

A delivery is in one place at a time::

    intake ─► waiting ─► running ─► finished ─► committed
                 └──────────┴──────────┴──────► dropped, when its partition goes to another worker

It takes a place in the ``Room`` when it is read and gives it back when it is committed or dropped. Its offset is
committed together with its records or after them, never before. All of this happens on one event loop, and nothing
moves between two awaits, so a rebalance never sees a delivery in two places.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from forebay_schemas.metrics import WorkerMetrics
from forebay_schemas.sections import WorkerConfig

from .answer import Answerer
from .backends import ModelBackend
from .commit import Share
from .counting import count
from .intake import Owner
from .lanes import Delivery, Room, Waiting
from .offsets import OffsetTracker, Partition
from .outcome import Outcome

RETRY_COMMIT_S = 0.1
"""Time for a rebalance to get on before its group's share is tried again."""
LAST_COMMITS = 20
"""How often the last commit before leaving is tried; what then is not committed will be done again."""

_log = logging.getLogger(__name__)


class Source(Protocol):
    """A topic of tasks; see ``intake.Intake``."""

    topic: str
    group: Any

    async def open(self, owner: Owner) -> None: ...

    async def run(self) -> None: ...

    def refresh(self) -> None: ...

    async def close(self) -> None: ...


class Publisher(Protocol):
    """Where outcomes go; see ``commit.Transactions``."""

    async def open(self) -> None: ...

    async def commit(self, shares: Sequence[Share]) -> set[str]: ...

    def close(self) -> None: ...


@dataclass(eq=False)
class _Model:
    """A model with the tasks that wait for it and those that it answers."""

    backend: ModelBackend
    waiting: Waiting = field(default_factory=Waiting)
    running: dict[Delivery, asyncio.Task[None]] = field(default_factory=dict)


class Worker:
    """Serves tiers until it is told to stop. Models are started and stopped by whoever made them."""

    def __init__(
        self,
        config: WorkerConfig,
        backends: Mapping[str, ModelBackend],
        sources: Sequence[Source],
        publisher: Publisher,
        answerer: Answerer,
        room: Room,
        metrics: WorkerMetrics,
    ) -> None:
        """``backends`` are by tier; tiers that share a model share the object."""
        self._config = config
        self._sources = sources
        self._publisher = publisher
        self._answerer = answerer
        self._room = room
        self._metrics = metrics
        models = {backend: _Model(backend) for backend in backends.values()}
        self._models = {tier: models[backend] for tier, backend in backends.items()}
        self._finished: dict[Delivery, Outcome] = {}
        self._some_finished = asyncio.Event()
        self._offsets = OffsetTracker()
        self._committing = asyncio.Lock()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = False

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Serve until ``stop`` is set, then finish what runs, commit it and leave. ``ready`` is called once.

        Raises:
            EngineDead: a model's engine died.
            KafkaException: a consumer or the producer is of no use any more.
        """
        stopping = asyncio.create_task(stop.wait())
        opening = asyncio.create_task(self._publisher.open())
        await asyncio.wait([stopping, opening], return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            return
        await opening
        for source in self._sources:
            await source.open(self)
        serving = [asyncio.create_task(source.run()) for source in self._sources]
        serving.append(asyncio.create_task(self._commit_what_finishes()))
        try:
            ready()
            await asyncio.wait([stopping, self._failure, *serving], return_when=asyncio.FIRST_COMPLETED)
            for task in (self._failure, *serving):
                if task.done():
                    task.result()
            await self._drain()
        finally:
            for task in (stopping, *serving):
                task.cancel()
            self._drop(self._offsets.partitions())
            for source in self._sources:
                await source.close()
            self._publisher.close()

    def taken(self, delivery: Delivery) -> None:
        """A source read a task."""
        self._offsets.started(delivery.partition, delivery.offset)
        model = self._models[delivery.tier]
        model.waiting.add(delivery)
        self._start(model)

    async def revoked(self, partitions: Collection[Partition]) -> None:
        """Commit what is finished, give up what is not: another worker begins where the commit ends."""
        await self._commit()
        self._drop(partitions)

    async def lost(self, partitions: Collection[Partition]) -> None:
        """Another worker has begun already: nothing of these partitions may be published any more."""
        async with self._committing:
            self._drop(partitions)

    def _start(self, model: _Model) -> None:
        """Give the model as much as it answers at the same time."""
        while not self._stopping and len(model.running) < model.backend.concurrency:
            delivery = model.waiting.next()
            if delivery is None:
                break
            model.running[delivery] = asyncio.create_task(self._answer(delivery, model))
        self._metrics.inflight.set(len(self._running()))

    async def _answer(self, delivery: Delivery, model: _Model) -> None:
        try:
            outcome = await self._answerer.answer(delivery, model.backend)
        except Exception as error:  # EngineDead: the delivery stays where it is, and its offset with it
            if not self._failure.done():
                self._failure.set_exception(error)
            return
        del model.running[delivery]
        self._finished[delivery] = outcome
        self._offsets.finished(delivery.partition, delivery.offset)
        self._some_finished.set()
        self._start(model)

    async def _commit_what_finishes(self) -> None:
        while True:
            await self._some_finished.wait()
            await asyncio.sleep(self._config.commit_interval_ms / 1000)
            if not await self._commit():
                await asyncio.sleep(RETRY_COMMIT_S)

    async def _commit(self) -> bool:
        """Publish what is finished with the progress it stands for; False when some of it has to be tried again."""
        async with self._committing:
            self._some_finished.clear()
            batch = dict(self._finished)  # more may finish while these are published
            if not batch:
                return True
            shares = self._shares(batch)
            committed = await self._publisher.commit(shares)
            for share in shares:
                outcome = "committed" if share.topic in committed else "aborted"
                self._metrics.commits.labels(outcome).inc()
                if share.topic in committed:
                    self._offsets.committed(share.offsets)
            for source in self._sources:
                if source.topic not in committed:
                    source.refresh()
            done = [delivery for delivery in batch if delivery.partition[0] in committed]
            for delivery in done:
                count(self._metrics, delivery, self._finished.pop(delivery))
            self._room.give_back(len(done))
            if self._finished:
                self._some_finished.set()
            return len(committed) == len(shares)

    def _shares(self, batch: Mapping[Delivery, Outcome]) -> list[Share]:
        offsets = self._offsets.committable()
        shares = [
            Share(
                source.topic,
                [
                    record
                    for delivery, outcome in batch.items()
                    if delivery.partition[0] == source.topic
                    for record in outcome.records
                ],
                source.group,
                {partition: offset for partition, offset in offsets.items() if partition[0] == source.topic},
            )
            for source in self._sources
        ]
        return [share for share in shares if share.records]

    def _drop(self, partitions: Collection[Partition]) -> None:
        """Forget everything of these partitions; generations that run are stopped."""
        dropped = 0
        for model in set(self._models.values()):
            dropped += model.waiting.drop(partitions)
            for delivery in [delivery for delivery in model.running if delivery.partition in partitions]:
                model.running.pop(delivery).cancel()
                dropped += 1
        for delivery in [delivery for delivery in self._finished if delivery.partition in partitions]:
            del self._finished[delivery]
            dropped += 1
        for partition in partitions:
            self._offsets.revoked(partition)
        self._room.give_back(dropped)
        for model in set(self._models.values()):
            self._start(model)

    async def _drain(self) -> None:
        """Read and start nothing more, let what runs finish, commit it. What waits is left to another worker."""
        self._stopping = True
        self._room.close()
        if running := self._running():
            _log.info("stopping: %d generations may finish first", len(running))
            await asyncio.wait(running, timeout=self._config.drain_timeout_s)
        for _ in range(LAST_COMMITS):
            if await self._commit():
                break
            await asyncio.sleep(RETRY_COMMIT_S)
        if self._failure.done():
            self._failure.result()
        if left := len(self._running()) + len(self._finished):
            _log.warning("%d tasks are left unfinished; another worker will do them", left)

    def _running(self) -> list[asyncio.Task[None]]:
        return [task for model in set(self._models.values()) for task in model.running.values()]
