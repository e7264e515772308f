"""The worker loop: who holds a task at each moment, and what of it is committed when.

A delivery is in one place at a time, and from being read until it is committed holds a place of its ``Room``; one that
is refused in its turn leaves that early::

    intake ─► admission ─► line ─► entering ─► running ─► finished ─► committed
               ▲   ││                 ▲         │  ▲  │        ▲
               │   │└─ last attempt, ─┘       resting │        │
               │   │   alone                          │        │
               ├───┼────────── again ─────────────────┘        │
               │   └─► entering ─► handed over ────────────────┘
               └────────── again ───────┘

Each attempt is counted, and the count committed, before it begins (``entering``): so a task that ends its worker is
known to the next one, and is given up after the last attempt, which it makes alone, so that nobody else is blamed.
What a provider's own batch is to answer is committed as handed over before it goes there: that is no attempt, and who
has the task next finds it in the batch.
A reply, its result and the progress they stand for are one transaction. All of this happens on one event loop, and
nothing moves between two awaits, so a rebalance never sees a delivery in two places.

What ends a delivery's way otherwise, and whether its attempt counts for whoever has the task next::

    its asker cancels it            finished, with an error        -
    its time is over, or will be    finished, with an error        -
      and others want the model
    its model is left alone         again                          no
    it failed                       again, or given up             yes
    its batch ends without it       again, to be called directly   no
    its partition is revoked,       withdrawn, and dropped after   no: taken back by the last commit, or
      or the worker is to stop        what is finished is committed  excused, which only this process knows
    its partition is lost,          dropped                        excused
      or the connection broke
    its engine or worker died       stays                          yes
    it is handed over, and any      dropped, and found there       no
      of the last three comes
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from confluent_kafka import KafkaException
from forebay_schemas.errors import ErrorCode
from forebay_schemas.metrics import WorkerMetrics
from forebay_schemas.records import Lane, Request, Task
from forebay_schemas.sections import WorkerConfig

from .admission import Admission
from .answer import Answerer, Generator, Retry, Wait
from .backends import Unavailable
from .committing import RETRY_COMMIT_S, CommitCycle
from .connection import Connection, Source
from .intake import TopicMadeAnew
from .lanes import Delivery, Kind, Line, Room
from .offsets import Commit, OffsetTracker, Partition
from .outcome import Outcome
from .recent import RecentTasks

LAST_COMMITS = 20
"""How often the last commit before leaving is tried; what then is not committed will be done again."""
CLOCK_CHECK_S = 1.0
"""How late it is noticed that the window of the batch lane presses, that a waiting task's time is over, or that a model
is to be tried again."""

UNSEEN_ATTEMPT = "ended before this worker had the task: it failed, or its worker died"

_log = logging.getLogger(__name__)


class Stream(Protocol):
    """Where the pieces of one answer go; see ``chunks.ChunkStream``."""

    def __call__(self, text: str) -> None: ...

    def finish(self) -> None: ...


class Pool(Generator, Protocol):
    """What answers the tasks of a tier; see ``backends.pool.Pool``."""

    def hold(self, generation_id: str) -> None: ...

    def release(self, generation_id: str) -> None: ...


class Batches(Protocol):
    """The way into providers' own batches; see ``handover.Handover``."""

    def takes(self, delivery: Delivery) -> bool: ...

    def outstanding(self, delivery: Delivery) -> int: ...

    async def batches(self, delivery: Delivery) -> Generator: ...

    def unwanted(self, delivery: Delivery) -> None: ...

    async def settled(self) -> None: ...


class Streams(Protocol):
    """Where the pieces of all answers go; see ``chunks.ChunkWriter``."""

    def for_task(self, task: Task, request: Request, attempt: int) -> Stream: ...

    async def close(self) -> None: ...


class Commands(Protocol):
    """Which tasks and batches are taken back; see ``control.ControlReader``."""

    async def run(self) -> None: ...

    def is_cancelled(self, name: str) -> bool: ...


@dataclass(eq=False)
class Model:
    """A model that is loaded once, with the tasks of all tiers that it answers."""

    line: Line
    rooms: Mapping[Lane, Room]
    pools: Mapping[str, Pool]
    """By tier: its models differ in their standbys."""
    generations: dict[Delivery, asyncio.Task[None] | None] = field(default_factory=dict)
    """Those that were started; None where one has not begun, because its attempt is not committed yet, or it rests."""
    handed_over: dict[Delivery, asyncio.Task[None] | None] = field(default_factory=dict)
    """Those that wait in a provider's batch, far more than are generated; None where that is not committed yet."""

    def begun(self, delivery: Delivery) -> dict[Delivery, asyncio.Task[None] | None]:
        """Those among which a delivery is, or would be."""
        return self.handed_over if delivery.handed_over else self.generations

    def takes(self, kind: Kind) -> int:
        """The generations of a tier and model that are taken at present."""
        return self.pools[kind.tier].takes_for(kind.model)


class Worker:
    """Serves tiers until it is told to stop. Backends are started and stopped by whoever made them.

    Args:
        pools: by tier, what generates.
        models: by tier; tiers whose pools begin with the same backend share one.
        connect: makes the ways in and out; again where one of them is of no use any more.
        listen: makes the reader of commands, which tells its argument of each task or batch that is taken back.
    """

    def __init__(
        self,
        config: WorkerConfig,
        pools: Mapping[str, Pool],
        models: Mapping[str, Model],
        connect: Callable[[], Connection],
        answerer: Answerer,
        handover: Batches,
        streams: Streams,
        listen: Callable[[Callable[[str], None]], Commands],
        metrics: WorkerMetrics,
    ) -> None:
        self._config = config
        self._pools = pools
        self._models = models
        self._distinct_models = list({id(model): model for model in models.values()}.values())
        self._connect = connect
        self._answerer = answerer
        self._handover = handover
        self._streams = streams
        self._commands = listen(self._cancel)
        self._metrics = metrics
        self._offsets = OffsetTracker()
        self._recent = RecentTasks()
        self._commits = CommitCycle(
            config.commit_interval_ms / 1000,
            self._offsets,
            answerer,
            metrics,
            entered=self._entered,
            published=self._give_back,
            committed=self._advance,
        )
        self._admission = Admission(config.max_attempts)
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._paused = False
        self._handed_over: set[str] = set()
        """Topics of which any task ever was."""
        self._again: asyncio.TimerHandle | None = None

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Serve until ``stop`` is set, then finish what runs, commit it and leave. ``ready`` is called once.

        Raises:
            EngineDead: a model's engine died.
            KafkaException: the brokers refuse, also after connecting anew.
        """
        stopping = asyncio.create_task(stop.wait())
        beside = [asyncio.create_task(self._commands.run()), asyncio.create_task(self._look_at_the_clock())]
        try:
            while True:
                connection = self._connect()
                self._commits.connected(connection)
                self._paused = False
                try:
                    return await self._serve(connection, [stopping, self._failure, *beside], ready)
                except KafkaException as error:
                    # A fatal error leaves open whether the last transaction was committed. The group's offsets say.
                    if stopping.done() or not (self._commits.fruitful or isinstance(error, TopicMadeAnew)):
                        raise
                    _log.warning("connecting anew, and going on from what is committed: %s", error)
                    ready = _nothing
        finally:
            for task in (stopping, *beside):
                task.cancel()
            await self._streams.close()

    async def _serve(
        self, connection: Connection, watched: Sequence[asyncio.Future[Any]], ready: Callable[[], None]
    ) -> None:
        """Serve on one connection until one of ``watched`` is done, the first of which is the wish to stop."""
        sources, publisher = connection.sources, connection.publisher
        serving: list[asyncio.Task[Any]] = [asyncio.create_task(publisher.open())]
        opened: list[Source] = []
        try:
            await asyncio.wait([watched[0], *serving], return_when=asyncio.FIRST_COMPLETED)
            if not serving[0].done():
                return
            await serving.pop()
            for source in sources:
                await source.open(self)
                opened.append(source)
            serving = [asyncio.create_task(source.run()) for source in sources]
            serving.append(asyncio.create_task(self._commits.run()))
            ready()
            await asyncio.wait([*watched, *serving], return_when=asyncio.FIRST_COMPLETED)
            for task in (*watched[1:], *serving):
                if task.done():
                    task.result()
            await self._drain()
        except BaseException:
            if serving and not serving[-1].done():  # the commits still work
                try:
                    await self._save()
                except Exception as error:  # the failure itself is the one to tell
                    _log.warning("what was finished could not be committed and will be done again: %s", error)
            raise
        finally:
            for task in serving:
                task.cancel()
            self._drop(self._offsets.partitions())
            for source in opened:
                try:
                    await source.close()
                except Exception as error:
                    _log.warning("%s: leaving its group failed (%s)", source.topic, error)
            publisher.close()

    async def _save(self) -> None:
        """Commit what is finished, which was paid for. Only what runs may have to do with a failure."""
        self._paused = True
        self._withdraw(self._offsets.partitions(), running=not self._failure.done())
        await self._commits.commit_before_leaving()

    # What sources tell

    def assigned(self, commits: Mapping[Partition, Commit | None]) -> RecentTasks:
        """These partitions are ours, from what their group stored. The newest tasks before that are to be noted."""
        for partition, commit in commits.items():
            self._offsets.assigned(partition, commit)
        return self._recent

    def full(self, partition: Partition) -> bool:
        """Whether nothing further of a partition may be read for now."""
        return self._offsets.full(partition)

    def taken(self, delivery: Delivery) -> None:
        """A source read a task."""
        partition, offset = delivery.partition, delivery.offset
        left_to_do = self._offsets.read(partition, offset)
        repeat = delivery.name is not None and self._recent.is_repeat(partition, delivery.name)
        if not left_to_do or repeat:
            if left_to_do:
                self._metrics.repeated_tasks.inc()
                self._offsets.finished(partition, offset)
            self._give_back(delivery)
            self._commits.progressed()
            return
        delivery.attempts = self._offsets.attempts(partition, offset)
        delivery.sought = self._offsets.is_handed_over(partition, offset)
        delivery.history = [f"attempt {number + 1} {UNSEEN_ATTEMPT}" for number in range(delivery.attempts)]
        if self._is_cancelled(delivery):
            self._refuse(delivery, self._answerer.cancelled(delivery))
        elif delivery.attempts >= self._config.max_attempts:
            self._give_up(delivery)
        elif self._answerer.is_late(delivery):
            self._refuse(delivery, self._answerer.late(delivery))
        else:
            self._admission.add(delivery)
            self._advance()

    async def revoked(self, partitions: Collection[Partition]) -> None:
        """Commit what is finished and give up what is not: another worker begins where the commit ends."""
        self._withdraw(partitions)
        if not self._handed_over.isdisjoint(topic for topic, _ in partitions):
            await self._handover.settled()
        await self._commits.commit_before_leaving()
        self._drop(partitions)

    async def lost(self, partitions: Collection[Partition]) -> None:
        """Another worker has begun already: nothing of these partitions may be published any more."""
        async with self._commits.lock:
            self._drop(partitions)

    def _is_cancelled(self, delivery: Delivery) -> bool:
        return any(map(self._commands.is_cancelled, delivery.cancelled_as))

    def _cancel(self, name: str) -> None:
        """Nobody wants the answer to a task any more, or to those of a batch."""

        def unwanted(delivery: Delivery) -> bool:
            return name in delivery.cancelled_as

        unbegun = self._remove_waiting(unwanted)
        for delivery in [one for one in self._begun() if unwanted(one)]:
            generation = self._generations(delivery)[delivery]
            if generation is not None:
                self._handover.unwanted(delivery)
                generation.cancel()
                generation.add_done_callback(lambda _, delivery=delivery: self._cancelled(delivery))
            else:
                self._stop(delivery)
                self._ended(delivery)
                unbegun.append(delivery)
        for delivery in unbegun:
            self._refuse(delivery, self._answerer.cancelled(delivery))

    def _cancelled(self, delivery: Delivery) -> None:
        """What was cancelled has ended, and what it cost is known."""
        if delivery in self._generations(delivery):  # its partition is still here
            self._take_outcome(delivery, self._answerer.cancelled(delivery))

    # The way of a delivery

    def _advance(self) -> None:
        """Start, hold and release whose turn has come."""
        if self._paused:
            return
        again_s: list[float | None] = []
        entrants = self._admission.entrants(time.monotonic(), idle=not self._started())
        again_s.append(entrants.again_s)
        for delivery in entrants.to_lines:
            if self._handover.takes(delivery):
                self._hand_over(delivery)
            else:
                self._models[delivery.tier].line.add(delivery)
        if entrants.alone is not None:
            self._start(entrants.alone)
        if self._admission.alone_next:
            self._rouse()
        else:
            for model in self._distinct_models:
                for delivery in model.line.hopeless(time.time() * 1000):
                    self._admission.ended(delivery)
                    self._refuse(delivery, self._answerer.hopeless(delivery))
                moves = model.line.moves(time.time() * 1000, model.takes)
                for delivery in moves.hold:
                    if model.generations[delivery] is not None:
                        self._pools[delivery.tier].hold(delivery.generation_id)
                for delivery in moves.release:
                    self._release(delivery)
                for delivery in moves.start:
                    self._start(delivery)
                again_s.append(None if moves.again_ms is None else moves.again_ms / 1000)
        if self._again is None and (foreseen := [wait_s for wait_s in again_s if wait_s is not None]):
            self._again = asyncio.get_running_loop().call_later(min(foreseen), self._advance_again)
        self._metrics.inflight.set(len(self._started()))
        self._metrics.held.set(sum(model.line.held for model in self._distinct_models))

    def _advance_again(self) -> None:
        self._again = None
        self._advance()

    def _rouse(self) -> None:
        """Let what rests end, where nothing new may start before."""
        for model in self._distinct_models:
            for delivery in model.line.rouse():
                self._release(delivery)

    def _start(self, delivery: Delivery) -> None:
        """Begin an attempt, as soon as that is committed."""
        delivery.turn_s = time.monotonic()
        self._models[delivery.tier].generations[delivery] = None
        self._commits.enter(delivery)

    def _hand_over(self, delivery: Delivery) -> None:
        """Let a provider's batch answer, as soon as that is committed."""
        delivery.handed_over = True
        # Only now: a rollout may name any model, and who hands nothing over leaves tasks in Kafka to others.
        self._models[delivery.tier].rooms[delivery.lane].widen(self._handover.outstanding(delivery))
        self._handed_over.add(delivery.partition[0])
        self._generations(delivery)[delivery] = None
        self._commits.hand_over(delivery)

    def _entered(self, delivery: Delivery) -> None:
        if not self._paused and not self._models[delivery.tier].line.is_held(delivery):
            self._generate(delivery)

    def _release(self, delivery: Delivery) -> None:
        if self._models[delivery.tier].generations[delivery] is not None:
            self._pools[delivery.tier].release(delivery.generation_id)
        elif not self._paused and not self._commits.is_entering(delivery):
            self._generate(delivery)

    def _generate(self, delivery: Delivery) -> None:
        self._generations(delivery)[delivery] = asyncio.create_task(self._answer(delivery))

    async def _answer(self, delivery: Delivery) -> None:
        try:
            self._take_outcome(delivery, await self._outcome(delivery))
        except Exception as error:  # EngineDead: the delivery stays where it is, and its attempt counts
            if not self._failure.done():
                self._failure.set_exception(error)

    def _take_outcome(self, delivery: Delivery, outcome: Outcome | Retry | Wait) -> None:
        del self._generations(delivery)[delivery]
        self._ended(delivery, answered=isinstance(outcome, Outcome))
        if isinstance(outcome, Outcome):
            delivery.answered = True
            self._time(delivery, outcome)
            self._commits.finish(delivery, outcome)
        elif isinstance(outcome, Wait):
            if not self._come_back(delivery):
                delivery.attempts -= 1
                self._offsets.withdrawn(delivery.partition, delivery.offset)
            self._admission.add(delivery)
        else:
            if self._come_back(delivery):
                delivery.attempts += 1
                self._offsets.begun(delivery.partition, delivery.offset)
            self._metrics.failed_attempts.labels(delivery.tier).inc()
            delivery.history.append(f"attempt {delivery.attempts}: {outcome.reason}")
            if delivery.attempts >= self._config.max_attempts:
                self._give_up(delivery)
            else:
                self._admission.add_failed(delivery, time.monotonic())
        self._advance()

    def _time(self, delivery: Delivery, outcome: Outcome) -> None:
        """Note how long it took to answer, where that tells how long it will take others."""
        error = outcome.reply.error if outcome.reply is not None else None
        late = error is not None and error.code == ErrorCode.DEADLINE_EXCEEDED
        if (error is None or late) and delivery.turn_s and not delivery.handed_over:
            line = self._models[delivery.tier].line
            line.took(delivery, (time.monotonic() - delivery.turn_s) * 1000, cut_short=late)

    def _come_back(self, delivery: Delivery) -> bool:
        """Whether what has ended without an outcome was handed over; it is called directly from now on."""
        came_back = delivery.handed_over
        delivery.handed_over, delivery.came_back = False, delivery.came_back or came_back
        return came_back

    async def _outcome(self, delivery: Delivery) -> Outcome | Retry | Wait:
        task, request = delivery.task, delivery.request
        if self._is_cancelled(delivery):
            return self._answerer.cancelled(delivery)
        try:
            pool = await self._handover.batches(delivery) if delivery.handed_over else self._pools[delivery.tier]
        except Unavailable:
            return Wait()
        if task is None or request is None or not request.stream:
            return await self._answerer.answer(delivery, pool)
        stream = self._streams.for_task(task, request, stream_number(task.hop, delivery.attempts, time.time()))
        outcome = await self._answerer.answer(delivery, pool, stream)
        if isinstance(outcome, Outcome) and outcome.reply is not None:
            stream.finish()
        return outcome

    def _stop(self, delivery: Delivery) -> bool:
        """Take back what was started; whether its attempt may be committed already."""
        generation = self._generations(delivery).pop(delivery)
        if generation is not None:
            generation.cancel()
        return not self._commits.withdraw(delivery)

    def _ended(self, delivery: Delivery, *, answered: bool = False) -> None:
        self._pools[delivery.tier].release(delivery.generation_id)
        self._models[delivery.tier].line.ended(delivery, answered=answered)
        self._admission.ended(delivery)

    def _remove_waiting(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out what waits for its turn and is not to get it."""
        removed = self._admission.remove(unwanted)
        for model in self._distinct_models:
            removed += model.line.remove(unwanted)
        for delivery in removed:
            self._admission.ended(delivery)
        return removed

    def _refuse(self, delivery: Delivery, outcome: Outcome) -> None:
        """End a task that waited for its turn."""
        self._models[delivery.tier].rooms[delivery.lane].set_aside(delivery)
        self._commits.finish(delivery, outcome)

    def _give_up(self, delivery: Delivery) -> None:
        _log.error("task %s is given up after %d attempts", delivery.name, delivery.attempts)
        self._commits.finish(delivery, self._answerer.give_up(delivery))

    # Leaving

    def _withdraw(self, partitions: Collection[Partition], *, running: bool = True) -> list[Delivery]:
        """Stop what is not finished, or only what has not begun; the attempts that are given up do not count.

        Returns:
            The tasks that lose an attempt which may be committed already.
        """
        for delivery in self._remove_waiting(lambda one: one.partition in partitions):
            self._give_back(delivery)
        lost: list[Delivery] = []
        for delivery in [one for one in self._begun() if one.partition in partitions]:
            generation = self._generations(delivery)[delivery]
            if generation is not None and not running:
                continue
            if delivery.handed_over:
                self._stop(delivery)
            elif generation is None or not generation.done():  # else it died with its engine, and the attempt counts
                self._offsets.withdrawn(delivery.partition, delivery.offset)
                if self._stop(delivery):
                    lost.append(delivery)
            else:
                del self._models[delivery.tier].generations[delivery]
            self._ended(delivery)
            self._give_back(delivery)
        return lost

    def _drop(self, partitions: Collection[Partition]) -> None:
        """Forget everything of these partitions; generations that run are stopped."""
        for delivery in self._withdraw(partitions):
            self._offsets.excused(delivery.partition, delivery.offset)
        for delivery in self._commits.drop(partitions):
            if delivery.answered:
                self._offsets.excused(delivery.partition, delivery.offset)
            self._give_back(delivery)
        for partition in partitions:
            self._offsets.revoked(partition)
            self._recent.forget(partition)
        self._advance()

    async def _drain(self) -> None:
        """Read and start nothing more, let what runs finish, commit it. What waits is left to another worker."""
        self._paused = True
        for model in self._distinct_models:
            for room in model.rooms.values():
                room.close()
        self._rouse()
        if running := self._running():
            _log.info("stopping: %d generations may finish first", len(running))
            await asyncio.wait(running, timeout=self._config.drain_timeout_s)
        if left := len(self._running()):
            _log.warning("%d generations are left unfinished; another worker will do them", left)
        self._withdraw(self._offsets.partitions())
        for _ in range(LAST_COMMITS):
            if await self._commits.commit_before_leaving():
                break
            await asyncio.sleep(RETRY_COMMIT_S)
        if self._failure.done():
            self._failure.result()

    async def _look_at_the_clock(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_CHECK_S)
            for delivery in self._remove_waiting(self._answerer.is_late):
                self._refuse(delivery, self._answerer.late(delivery))
            for model in self._distinct_models:
                model.line.look_ahead(time.time() * 1000, sum(model.rooms[Lane.BATCH].unread.values()))
            self._advance()

    def _give_back(self, delivery: Delivery) -> None:
        self._models[delivery.tier].rooms[delivery.lane].give_back(delivery)

    def _begun(self) -> list[Delivery]:
        """What was started or handed over."""
        handed_over = [delivery for model in self._distinct_models for delivery in model.handed_over]
        return [*self._started(), *handed_over]

    def _started(self) -> list[Delivery]:
        return [delivery for model in self._distinct_models for delivery in model.generations]

    def _generations(self, delivery: Delivery) -> dict[Delivery, asyncio.Task[None] | None]:
        return self._models[delivery.tier].begun(delivery)

    def _running(self) -> list[asyncio.Task[None]]:
        generations = (model.generations for model in self._distinct_models)
        return [task for of_model in generations for task in of_model.values() if task is not None]


def _nothing() -> None:
    """What is left to announce after the first connection."""


_MAX_HOP = _MAX_ATTEMPT = 15
_TENTHS = 2**23
"""Tenths of a second that a stream's number tells apart: nine days, of which a stream needs one."""


def stream_number(hop: int, attempt: int, now_s: float) -> int:
    """The number of a generation's stream: larger than those of the same request before it, by whichever worker.

    Where an attempt was taken back, because its partition moved, the clock alone tells it from the next one: one that
    is behind by more than a rebalance takes makes the asker wait for the reply.

    Args:
        hop: how often the task was handed to another tier, and ``attempt``: generations begun; 15 at most are told
            apart. Those of one hop and attempt follow each other by more than a tenth of a second: a rebalance lies
            between them.
        now_s: seconds since the epoch.
    """
    place = max(0, min(hop, _MAX_HOP)) * (_MAX_ATTEMPT + 1) + max(0, min(attempt, _MAX_ATTEMPT))
    return place * _TENTHS + round(now_s * 10) % _TENTHS
