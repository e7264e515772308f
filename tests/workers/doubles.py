"""Doubles for the worker's tests: deliveries, a model that answers when told, a log and a publisher in memory."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from forebay_schemas.codec import Codec
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import RecordError
from forebay_schemas.records import Lane, Message, Request, Task, Usage
from forebay_schemas.topics import Headers
from forebay_workers.backends import CutShort, Generation, GenerationRequest, OnText
from forebay_workers.intake import Owner
from forebay_workers.lanes import Delivery, Room
from forebay_workers.offsets import Commit
from forebay_workers.outcome import OutgoingRecord
from forebay_workers.recent import RecentTasks
from forebay_workers.transactions import Committed, Share

from ..builders import make_request, make_task, user

CODEC = Codec()


def configured(toml: str, path: Any) -> Config:
    """The configuration of a file with this text."""
    file = path / "forebay.toml"
    file.write_text(toml)
    return load_config(file)


def to_generate(*messages: Message, **fields: Any) -> GenerationRequest:
    """What a model is asked, with nothing special about it but what is given."""
    usual: dict[str, Any] = {"generation_id": "task-1", "max_tokens": 9, "temperature": 0.0, "top_p": 1.0, "stop": []}
    fields = usual | {"seed": None, "tools": None, "response_format": None} | fields
    return GenerationRequest(messages=list(messages) or [user("So?")], **fields)


def delivery(
    value: bytes = b"",
    *,
    tier: str = "small",
    lane: Lane = Lane.INTERACTIVE,
    partition: int = 0,
    offset: int = 0,
    headers: Headers | None = None,
    written_ms: int = 0,
) -> Delivery:
    """A record as the intake reads it."""
    topic = f"llm.tier.{tier}{'.batch' if lane is Lane.BATCH else ''}"
    raw: list[tuple[str, bytes | None]] = list((headers or Headers()).to_kafka().items())
    made = Delivery(
        tier=tier,
        lane=lane,
        partition=(topic, partition),
        offset=offset,
        value=value,
        headers=raw,
        written_ms=written_ms,
    )
    with contextlib.suppress(RecordError):
        made.task = CODEC.decode(value, Task)
        made.request = CODEC.decode(made.task.request, Request)
    return made


def task_for(request: Request | None = None, **fields: Any) -> bytes:
    """An encoded task."""
    return CODEC.encode(make_task(request or make_request(), **fields))


class Model:
    """A backend that answers each request when, and how, the test says."""

    synthetic = False

    def __init__(self, model_id: str = "model", concurrency: int = 8) -> None:
        self.model_id = model_id
        self.concurrency = self.takes = concurrency
        self.asked: dict[str, GenerationRequest] = {}
        self.generations: list[str] = []
        self.held: list[str] = []
        self.cancelled: list[str] = []
        self._answers: dict[str, asyncio.Future[Generation]] = {}

    def can_rest(self, *, structured: bool) -> bool:
        return not structured

    def takes_for(self, model: str | None) -> int:
        """It stands for a pool too."""
        return self.takes

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        task_id = request.generation_id.split("/")[0]
        self.asked[task_id] = request
        self.generations.append(request.generation_id)
        self._answers[task_id] = asyncio.get_running_loop().create_future()
        if on_text is not None:
            on_text("answer ")
        try:
            return await self._answers[task_id]
        except asyncio.CancelledError:
            self.cancelled.append(task_id)
            raise CutShort(self.model_id, Usage(prompt_tokens=3, completion_tokens=1)) from None

    def hold(self, generation_id: str) -> None:
        self.held.append(generation_id.split("/")[0])

    def release(self, generation_id: str) -> None:
        if (name := generation_id.split("/")[0]) in self.held:
            self.held.remove(name)

    def answer(self, *task_ids: str, text: str | None = None) -> None:
        for task_id in task_ids:
            usage = Usage(prompt_tokens=3, completion_tokens=2)
            generation = Generation(
                text=text or f"answer to {task_id}", finish_reason="stop", model_id=self.model_id, usage=usage
            )
            self._answers[task_id].set_result(generation)

    def fail(self, task_id: str, error: Exception) -> None:
        self._answers[task_id].set_exception(error)


class Log:
    """A source whose records the test delivers, and whose partitions it takes away."""

    def __init__(self, tier: str, lane: Lane, room: Room) -> None:
        self.tier, self.lane = tier, lane
        self.topic = f"llm.tier.{tier}{'.batch' if lane is Lane.BATCH else ''}"
        self.group: Any = f"group of {self.topic}"
        self.refreshed = 0
        self.closed = False
        self.stored: dict[int, Commit] = {}
        """What the group has stored, by partition."""
        self._room = room
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, owner: Owner) -> None:
        self.owner = owner
        self.assign(0, 1)

    async def run(self) -> None:
        await self._broken

    def refresh(self) -> None:
        self.refreshed += 1

    async def close(self) -> None:
        self.closed = True
        await self.owner.revoked({(self.topic, partition) for partition in range(4)})

    def assign(self, *partitions: int) -> RecentTasks:
        return self.owner.assigned({(self.topic, number): self.stored.get(number) for number in partitions})

    def deliver(
        self, task_id: str, *, partition: int = 0, offset: int = 0, to: str = "llm.replies", **fields: Any
    ) -> None:
        self._room.take()
        now_ms = round(time.time() * 1000)  # an old batch task would be in haste
        request = make_request(lane=self.lane, **{"created_ms": now_ms, **fields})
        value = task_for(request, task_id=task_id, reply_topic=to)
        self.owner.taken(delivery(value, tier=self.tier, lane=self.lane, partition=partition, offset=offset))

    def give(self, value: bytes, *, offset: int = 0, written_ms: int = 0) -> None:
        """Deliver an encoded task."""
        self._room.take()
        self.owner.taken(delivery(value, tier=self.tier, lane=self.lane, offset=offset, written_ms=written_ms))

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
    gone: set[str] = field(default_factory=set)
    """Topics to which no record can be written."""
    rejects: Callable[[OutgoingRecord], bool] = lambda record: False
    """Which records are not taken, though their topics are there."""
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

    async def commit(self, shares: Sequence[Share]) -> Committed:
        self.begun += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.broken is not None:
            raise self.broken
        topics = {record.topic for share in shares for record in share.records}
        if refused := topics & self.gone:
            return Committed(refused=dict.fromkeys(refused, "unknown topic"))
        if rejected := [record for share in shares for record in share.records if self.rejects(record)]:
            return Committed(rejected=[(record, "too large for its topic") for record in rejected])
        done = [share for share in shares if share.topic not in self.refuse]
        self.committed += done
        return Committed({share.topic for share in done})

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
        return {partition: commit.offset for partition, commit in self.commits().items()}

    def commits(self) -> dict[tuple[str, int], Commit]:
        """What was last stored of each partition."""
        return {partition: commit for share in self.committed for partition, commit in share.commits.items()}


class Stream:
    """The pieces of one generation, as they were told."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.pieces: list[str] = []
        self.finished = False

    def __call__(self, text: str) -> None:
        self.pieces.append(text)

    def finish(self) -> None:
        self.finished = True


class Streams:
    """A writer of chunks that keeps them."""

    def __init__(self) -> None:
        self.made: list[Stream] = []
        self.closed = False

    def for_task(self, task: Task, request: Request, attempt: int) -> Stream:
        self.made.append(Stream(attempt))
        return self.made[-1]

    async def close(self) -> None:
        self.closed = True


class Commands:
    """A reader of commands whose commands the test gives."""

    def __init__(self, on_cancel: Callable[[str], None]) -> None:
        self._on_cancel = on_cancel
        self._cancelled: set[str] = set()

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    def is_cancelled(self, name: str) -> bool:
        return name in self._cancelled

    def cancel(self, name: str) -> None:
        self._cancelled.add(name)
        self._on_cancel(name)
