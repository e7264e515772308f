"""Doubles for the worker's tests: deliveries, a model that answers when told, a log and a publisher in memory."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from forebay_schemas.codec import Codec
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import Lane, Request, Usage
from forebay_schemas.topics import Headers
from forebay_workers.backends import Generation, GenerationRequest
from forebay_workers.commit import Share
from forebay_workers.intake import Owner
from forebay_workers.lanes import Delivery

from ..builders import make_request, make_task

CODEC = Codec()


def configured(toml: str, path: Any) -> Config:
    """The configuration of a file with this text."""
    file = path / "forebay.toml"
    file.write_text(toml)
    return load_config(file)


def delivery(
    value: bytes = b"",
    *,
    tier: str = "small",
    lane: Lane = Lane.INTERACTIVE,
    partition: int = 0,
    offset: int = 0,
    headers: Headers | None = None,
) -> Delivery:
    """A record as the intake reads it."""
    topic = f"llm.tier.{tier}{'.batch' if lane is Lane.BATCH else ''}"
    raw: list[tuple[str, bytes | None]] = list((headers or Headers()).to_kafka().items())
    return Delivery(tier=tier, lane=lane, partition=(topic, partition), offset=offset, value=value, headers=raw)


def task_for(request: Request | None = None, **fields: Any) -> bytes:
    """An encoded task."""
    return CODEC.encode(make_task(request or make_request(), **fields))


class Model:
    """A backend that answers each request when, and how, the test says."""

    synthetic = False

    def __init__(self, model_id: str = "model", concurrency: int = 8) -> None:
        self.model_id = model_id
        self.concurrency = concurrency
        self.asked: dict[str, GenerationRequest] = {}
        self.cancelled: list[str] = []
        self._answers: dict[str, asyncio.Future[Generation]] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def generate(self, request: GenerationRequest) -> Generation:
        self.asked[request.task_id] = request
        self._answers[request.task_id] = asyncio.get_running_loop().create_future()
        try:
            return await self._answers[request.task_id]
        except asyncio.CancelledError:
            self.cancelled.append(request.task_id)
            raise

    def answer(self, *task_ids: str) -> None:
        for task_id in task_ids:
            usage = Usage(prompt_tokens=3, completion_tokens=2)
            generation = Generation(
                text=f"answer to {task_id}", finish_reason="stop", model_id="llama-3.1-8b", usage=usage
            )
            self._answers[task_id].set_result(generation)

    def fail(self, task_id: str, error: Exception) -> None:
        self._answers[task_id].set_exception(error)


class Log:
    """A source whose records the test delivers, and whose partitions it takes away."""

    def __init__(self, tier: str = "small", lane: Lane = Lane.INTERACTIVE, take: Callable[[], None] | None = None):
        self.tier, self.lane = tier, lane
        self.topic = f"llm.tier.{tier}{'.batch' if lane is Lane.BATCH else ''}"
        self.group: Any = f"group of {self.topic}"
        self.refreshed = 0
        self.closed = False
        self._take = take or (lambda: None)
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, owner: Owner) -> None:
        self.owner = owner

    async def run(self) -> None:
        await self._broken

    def refresh(self) -> None:
        self.refreshed += 1

    async def close(self) -> None:
        self.closed = True
        await self.owner.revoked({(self.topic, partition) for partition in range(4)})

    def deliver(self, task_id: str, *, partition: int = 0, offset: int = 0) -> None:
        self._take()
        value = task_for(task_id=task_id)
        self.owner.taken(delivery(value, tier=self.tier, lane=self.lane, partition=partition, offset=offset))

    async def revoke(self, *partitions: int) -> None:
        await self.owner.revoked({(self.topic, partition) for partition in partitions})

    async def lose(self, *partitions: int) -> None:
        await self.owner.lost({(self.topic, partition) for partition in partitions})

    def break_down(self, error: Exception) -> None:
        self._broken.set_exception(error)


@dataclass
class Publications:
    """A publisher that keeps what is committed, and refuses, breaks or waits where the test says so."""

    refuse: set[str] = field(default_factory=set)
    """Topics whose share is left out."""
    broken: Exception | None = None
    opened: asyncio.Event | None = None
    """It is not open before this is set."""
    gate: asyncio.Event | None = None
    """A transaction waits until it is set."""
    committed: list[Share] = field(default_factory=list)
    begun: int = 0

    async def open(self) -> None:
        if self.opened is not None:
            await self.opened.wait()

    async def commit(self, shares: Sequence[Share]) -> set[str]:
        self.begun += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.broken is not None:
            raise self.broken
        done = [share for share in shares if share.topic not in self.refuse]
        self.committed += done
        return {share.topic for share in done}

    def close(self) -> None: ...

    def replies(self) -> list[str]:
        """The keys of the committed replies, in order."""
        return [
            record.key or ""
            for share in self.committed
            for record in share.records
            if record.topic.endswith(".replies")
        ]

    def offsets(self) -> dict[tuple[str, int], int]:
        """The last committed offsets."""
        return {partition: offset for share in self.committed for partition, offset in share.offsets.items()}
