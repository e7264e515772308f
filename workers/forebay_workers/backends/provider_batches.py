"""A provider's own batches: requests are gathered into one, or found in one that is there, and answered by it.

A request is known by its line's id in every batch, so that whoever has its task finds it again: before a request that
others may have put into a batch goes into a new one, it is looked for in those that the provider has. So a worker that
was killed, or lost a partition, leaves nothing behind that is paid for twice, and several may wait for one batch.

What becomes of a request::

    gathered ─► in a batch ─► answered, or failed
      │  ▲          │
      │  └──────────┤ the batch ended without it (expired, cancelled, failed as a whole)
      ▼             ▼
    its time comes: called directly, from a batch as soon as that is cancelled, or is not to be asked
"""

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from forebay_schemas.metrics import WorkerMetrics
from forebay_schemas.tiers import ProviderBatchesConfig

from . import Generation, GenerationError, GenerationRequest, NotInBatch, OnText
from .batch_calls import ENDPOINT, BatchCallFailed, BatchCalls
from .batch_following import Follower
from .batch_lines import Batch, Line

if TYPE_CHECKING:
    from openai.types import Batch as Told

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 900.0
"""Without new batches after the provider failed, or refused a whole batch; twice as long each time, until one ends."""
CLOCKS_APART_S = 600.0
"""By which the clocks of providers, brokers and workers may differ."""

_log = logging.getLogger(__name__)


class ProviderBatches:
    """The batches of one model. One event loop uses it; ``close`` ends what it does beside.

    Args:
        body: what the provider is asked for a request.
        read: see ``Follower``.
    """

    def __init__(
        self,
        name: str,
        config: ProviderBatchesConfig,
        calls: BatchCalls,
        body: Callable[[GenerationRequest], dict[str, Any]],
        read: Callable[[int, Any], Generation | None],
        metrics: WorkerMetrics,
    ) -> None:
        self._name = name
        self._config = config
        self._calls = calls
        self._body = body
        self._follower = Follower(name, calls, read, config.poll_s)
        self._metrics = metrics
        self._lines: dict[str, Line] = {}
        self._by_generation: dict[str, Line] = {}
        self._gathered: dict[str, Line] = {}
        self._gathered_bytes = 0
        self._batches: dict[str, Batch] = {}
        self._news = asyncio.Event()
        self._hurry = False
        """Whether a line whose time has come is still to be looked for."""
        self._making = asyncio.Lock()
        self._pause_s = FIRST_PAUSE_S
        self._not_before_s = 0.0
        self._maker: asyncio.Task[None] | None = None
        self._beside: set[asyncio.Task[None]] = set()
        for state in ("gathered", "there"):
            self._metrics.provider_batch_tasks.labels(name, state).set(0)

    def takes_for(self, model: str | None) -> int:
        """All that come: they wait here while the provider takes none."""
        return self._config.outstanding

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        """The answer from a batch; cancelling leaves the request where it is.

        Raises:
            GenerationError: the request has no answer.
            NotInBatch: it is to be called directly.
        """
        assert request.line is not None, "it goes into no batch"
        loop = asyncio.get_running_loop()
        wanted = request.line
        if wanted.line_id in self._lines:
            raise NotInBatch("an equal task waits for the same line")
        line = Line(request, wanted.line_id, wanted.until_s, wanted.sought_from_ms, loop.create_future())
        self._lines[line.line_id] = self._by_generation[request.generation_id] = line
        self._gather(line)
        timer = loop.call_at(line.until_s, self._time_is_over, line)
        if self._maker is None or self._maker.done():
            self._maker = self._do_beside(self._make_batches())
        outcome = None
        try:
            generation = await line.answer
            outcome = "answered"
        except GenerationError:
            outcome = "failed"
            raise
        except NotInBatch:
            outcome = "direct"
            raise
        finally:
            timer.cancel()
            self._leave(line)
            if outcome:
                self._metrics.provider_batch_answers.labels(self._name, outcome).inc()
        if on_text is not None and generation.text:
            on_text(generation.text)
        return generation

    def unwanted(self, generation_id: str) -> None:
        """Nobody wants an answer any more; to be called before its ``generate`` is cancelled. A batch of which nobody
        wants anything is cancelled."""
        if line := self._by_generation.get(generation_id):
            line.unwanted = True

    async def settled(self) -> None:
        """Until no batch is being made. What left before is in none that comes later, or is to be found at once."""
        async with self._making:
            pass

    async def close(self) -> None:
        """Wait for nothing any more; batches go on at the provider."""
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)

    # Gathering

    def _gather(self, line: Line) -> None:
        asked = {"custom_id": line.line_id, "method": "POST", "url": ENDPOINT, "body": self._body(line.request)}
        line.encoded = json.dumps(asked).encode() + b"\n"
        line.gathered_s, line.batch = time.monotonic(), None
        self._gathered[line.line_id] = line
        self._gathered_bytes += len(line.encoded)
        self._show()
        self._news.set()

    def _ungather(self, line: Line) -> None:
        if self._gathered.get(line.line_id) is line:
            del self._gathered[line.line_id]
            self._gathered_bytes -= len(line.encoded)
            line.encoded = b""

    def _leave(self, line: Line) -> None:
        """Nobody waits for a line any more, here."""
        del self._lines[line.line_id]
        if self._by_generation.get(line.request.generation_id) is line:
            del self._by_generation[line.request.generation_id]
        self._ungather(line)
        if line.batch is not None:
            line.batch.lines.pop(line.line_id, None)
            line.batch.unwanted += line.unwanted
            line.batch.news.set()
        self._show()

    def _time_is_over(self, line: Line) -> None:
        if line.batch is not None:
            line.batch.recalled = True
            line.batch.news.set()
        elif line.making:
            pass  # it is in a batch next, which is then cancelled
        elif line.sought_from_ms is None:
            self._call_directly(line)
        else:
            self._hurry = True
            self._news.set()

    def _call_directly(self, line: Line) -> None:
        self._ungather(line)
        if not line.answer.done():
            line.answer.set_exception(NotInBatch("its time is over"))

    async def _make_batches(self) -> None:
        while True:
            await self._until_due()
            try:
                await self._find()
                if self._due_s() <= time.monotonic():
                    await self._make()
            except BatchCallFailed as error:
                self._failed(str(error), error.again_s)
                for line in [one for one in self._gathered.values() if one.is_over]:
                    self._call_directly(line)  # it may be in a batch, and there is no time to find out

    async def _until_due(self) -> None:
        while True:
            self._news.clear()
            wait_s = self._due_s() - time.monotonic()
            if wait_s <= 0 or (self._hurry and self._gathered):
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait_s if wait_s < math.inf else None)

    def _due_s(self) -> float:
        """When a batch is to be made, on the monotonic clock."""
        if not self._gathered:
            return math.inf
        if len(self._gathered) >= self._config.max_tasks or self._gathered_bytes >= self._config.max_bytes:
            return self._not_before_s
        oldest = next(iter(self._gathered.values()))
        return max(self._not_before_s, oldest.gathered_s + self._config.gather_s)

    def _failed(self, problem: str, again_s: float | None = None) -> None:
        pause_s = max(again_s or 0.0, self._pause_s)
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)
        self._not_before_s = time.monotonic() + pause_s
        _log.warning("%s: no new batch for %.0f s: %s", self._name, pause_s, problem)

    # Finding and making batches

    async def _find(self) -> None:
        """Look for what others may have put into a batch; what is in none is in one of ours next."""
        self._hurry = False
        sought = {key: line for key, line in self._gathered.items() if line.sought_from_ms is not None}
        if not sought:
            return
        left = dict(sought)
        from_s = min(line.sought_from_ms or 0.0 for line in sought.values()) / 1000 - CLOCKS_APART_S
        async for there in self._calls.made_since(from_s):
            if not left:
                break
            found, size = await self._found_in(there, left)
            if not found:
                continue
            batch = self._batches.get(there.id)
            if batch is None or batch.read:
                batch = Batch(there.id, size, there.created_at)
                self._metrics.provider_batches.labels(self._name, "found").inc()
                self._follow(batch)
            for number, line in found.items():
                del left[line.line_id]
                self._join(batch, line, number)
        _log.info("%s: found %d of %d tasks in batches", self._name, len(sought) - len(left), len(sought))
        for line in left.values():
            line.sought_from_ms = None
            if line.is_over:
                self._call_directly(line)

    async def _found_in(self, there: "Told", sought: Mapping[str, Line]) -> tuple[dict[int, Line], int]:
        """The lines that a batch has, by their number, and how many it has in all."""
        found: dict[int, Line] = {}
        number = 0
        try:
            async for asked in self._calls.results(there.input_file_id):
                number += 1
                line = sought.get(asked.custom_id)
                if line is not None:
                    found[number] = line
        except BatchCallFailed as error:
            if error.status != 404:
                raise
            _log.warning("%s: what is in batch %s is not known any more", self._name, there.id)
        return found, number

    async def _make(self) -> None:
        """Make one batch of what was gathered first."""
        chosen: list[Line] = []
        size_bytes = 0
        for line in self._gathered.values():
            if line.sought_from_ms is not None:
                continue  # it came while others were looked for
            size_bytes += len(line.encoded)
            if chosen and (len(chosen) == self._config.max_tasks or size_bytes > self._config.max_bytes):
                break
            chosen.append(line)
        if not chosen:
            return
        file_id = await self._calls.upload(b"".join(line.encoded for line in chosen))
        async with self._making:
            there = await self._create(file_id, chosen)
        if there is None:
            with contextlib.suppress(BatchCallFailed):
                await self._calls.delete(file_id)
            return
        self._metrics.provider_batches.labels(self._name, "created").inc()
        _log.info("%s: batch %s of %d tasks", self._name, there.id, len(chosen))
        batch = Batch(there.id, len(chosen), there.created_at)
        batch.unwanted = sum(line.unwanted for line in chosen if line.line_id not in self._lines)
        self._follow(batch)
        for number, line in enumerate(chosen, 1):
            self._join(batch, line, number)

    async def _create(self, file_id: str, chosen: list[Line]) -> "Told | None":
        """Make a batch of a file; None where one of its lines has left, and may be another worker's by now."""
        if any(self._gathered.get(line.line_id) is not line or line.answer.done() for line in chosen):
            return None
        began_ms = time.time() * 1000
        for line in chosen:
            line.making = True
        try:
            return await self._calls.create(file_id)
        except BatchCallFailed as error:
            if not error.refused:
                for line in chosen:
                    line.sought_from_ms = began_ms
            raise
        finally:
            for line in chosen:
                line.making = False

    def _join(self, batch: Batch, line: Line, number: int) -> None:
        if self._gathered.get(line.line_id) is not line:
            return  # it left meanwhile
        self._ungather(line)
        line.batch, line.number, line.sought_from_ms = batch, number, None
        batch.lines[line.line_id] = line
        if line.is_over:
            batch.recalled = True
        batch.news.set()

    # Following batches

    def _follow(self, batch: Batch) -> None:
        known = self._batches.get(batch.batch_id)
        if known is None or known.read:
            self._batches[batch.batch_id] = batch
            self._do_beside(self._see_to_end(batch))
        self._show()

    async def _see_to_end(self, batch: Batch) -> None:
        end = await self._follower.follow(batch)
        if self._batches.get(batch.batch_id) is batch:
            del self._batches[batch.batch_id]
        if end is not None:
            self._metrics.provider_batches.labels(self._name, end.status).inc()
            self._metrics.provider_batch_seconds.labels(self._name).observe(max(0.0, time.time() - end.created_s))
            if end.problem is not None:
                self._failed(end.problem)
            else:
                self._pause_s = FIRST_PAUSE_S
        for line in [one for one in batch.lines.values() if not one.answer.done()]:
            del batch.lines[line.line_id]
            if line.is_over:
                self._call_directly(line)
            else:
                if end is None:  # it may yet be answered there
                    line.sought_from_ms = batch.created_s * 1000
                self._gather(line)

    def _do_beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._beside.discard(task)
        if not task.cancelled() and isinstance(defect := task.exception(), Exception):
            for line in self._lines.values():  # nobody may wait for ever
                line.fail(defect)

    def _show(self) -> None:
        tasks = self._metrics.provider_batch_tasks
        tasks.labels(self._name, "gathered").set(len(self._gathered))
        tasks.labels(self._name, "there").set(len(self._lines) - len(self._gathered))
