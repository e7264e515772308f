"""The commit cycle: attempts are committed before they begin, outcomes with the progress that they stand for."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from forebay_schemas.metrics import WorkerMetrics

from . import traces
from .answer import Answerer
from .connection import Connection
from .counting import count
from .lanes import Delivery
from .offsets import OffsetTracker, Partition, Unpublished
from .outcome import Outcome
from .transactions import Committed, Share
from .undeliverable import Undeliverable

RETRY_COMMIT_S = 0.1
"""Time for a rebalance to get on before its group's share is tried again."""

_log = logging.getLogger(__name__)


class CommitCycle:
    """Holds what is to be committed, and commits it on the present connection.

    Args:
        interval_s: how long what comes one after the other is gathered for one transaction.
        entered: called with each delivery whose attempt is committed, so that it may begin.
        published: called with each delivery whose outcome is.
        committed: called after every commit, when all deliveries have been told.
    """

    def __init__(
        self,
        interval_s: float,
        offsets: OffsetTracker,
        answerer: Answerer,
        metrics: WorkerMetrics,
        *,
        entered: Callable[[Delivery], None],
        published: Callable[[Delivery], None],
        committed: Callable[[], None],
    ) -> None:
        self._interval_s = interval_s
        self._offsets = offsets
        self._answerer = answerer
        self._metrics = metrics
        self._on_entered = entered
        self._on_published = published
        self._on_committed = committed
        self._entering: dict[Delivery, None] = {}
        self._finished: dict[Delivery, Outcome] = {}
        self._news = asyncio.Event()
        self.lock = asyncio.Lock()
        """Held while a transaction is open."""
        self.fruitful = False
        """Whether anything was committed on the present connection."""

    def connected(self, connection: Connection) -> None:
        """Go on with a new connection."""
        self._connection = connection
        self._undeliverable = Undeliverable()
        self.fruitful = False

    def enter(self, delivery: Delivery) -> None:
        """Count another attempt; it may begin once that is committed."""
        delivery.attempts += 1
        self._offsets.begun(delivery.partition, delivery.offset)
        self._entering[delivery] = None
        self._news.set()

    def hand_over(self, delivery: Delivery) -> None:
        """A task goes into a provider's batch; it may do so once that is committed."""
        self._offsets.handed_over(delivery.partition, delivery.offset)
        self._entering[delivery] = None
        self._news.set()

    def finish(self, delivery: Delivery, outcome: Outcome) -> None:
        """Publish an outcome with the next commit."""
        self._finished[delivery] = outcome
        self._offsets.finished(delivery.partition, delivery.offset)
        self._news.set()

    def progressed(self) -> None:
        """There is progress to commit that has no outcome."""
        self._news.set()

    def is_entering(self, delivery: Delivery) -> bool:
        """Whether an attempt is still to be committed."""
        return delivery in self._entering

    def withdraw(self, delivery: Delivery) -> bool:
        """Let go of an attempt that is still to be committed; False where it is none."""
        if delivery not in self._entering:
            return False
        del self._entering[delivery]
        return True

    def drop(self, partitions: Collection[Partition]) -> list[Delivery]:
        """Let go of outcomes that may not be published any more."""
        finished = [one for one in self._finished if one.partition in partitions]
        for delivery in finished:
            del self._finished[delivery]
        return finished

    async def run(self) -> None:
        """Commit at once what comes after a pause, and together what comes within an interval."""
        last_s = 0.0
        while True:
            await self._news.wait()
            await asyncio.sleep(max(0.0, last_s + self._interval_s - time.monotonic()))
            last_s = time.monotonic()
            if not await self.commit():
                await asyncio.sleep(RETRY_COMMIT_S)

    async def commit_before_leaving(self) -> bool:
        """Commit before the chance is gone; False when some of it could not be.

        Outcomes for topics that are refused just now are left to whoever takes their partitions over and generates
        them again: it has the patience that there is no time for here.
        """
        if await self.commit():
            return True
        if refused := set(self._undeliverable.refused):
            _log.warning("leaving what is for %s to others: the brokers refuse it just now", ", ".join(sorted(refused)))
        return await self.commit(without=refused)

    async def commit(self, *, without: Collection[str] = ()) -> bool:
        """Publish what is finished with the progress it stands for; False when some of it has to be tried again.

        Args:
            without: topics; outcomes with a record for one of them wait for another commit.
        """
        async with self.lock:
            self._news.clear()
            self._leave_out_given_up()
            left_out = self._left_out(without)
            # More may come while these are published.
            finished = {one: outcome for one, outcome in self._finished.items() if self._tellable(one, left_out)}
            entering = [one for one in self._entering if self._tellable(one, left_out)]
            shares = self._shares(finished, left_out)
            began_ms = time.time() * 1000
            done = await self._connection.publisher.commit(shares) if shares else Committed()
            deferred = self._note(shares, done)
            for delivery in finished:
                if delivery.partition[0] not in deferred and (outcome := self._finished.pop(delivery, None)):
                    count(self._metrics, delivery, outcome)
                    if delivery.span is not None:
                        traces.committed(delivery.span, delivery, outcome, began_ms)
                    self._on_published(delivery)
            for delivery in entering:
                # One that was withdrawn meanwhile is not here any more.
                if delivery.partition[0] not in deferred and delivery in self._entering:
                    del self._entering[delivery]
                    self._on_entered(delivery)
            if any(self._tellable(one, {}) for one in (*self._finished, *self._entering)):
                self._news.set()
            self._on_committed()
            return not deferred

    def _note(self, shares: list[Share], done: Committed) -> set[str]:
        """Take down what the brokers took; returns the topics of tasks whose share has to be tried again."""
        for share in shares:
            self._metrics.commits.labels("committed" if share.topic in done.topics else "aborted").inc()
            if share.topic in done.topics:
                self.fruitful = True
                self._offsets.committed(share.commits)
                self._undeliverable.accepted(record.topic for record in share.records)
        for topic, reason in done.refused.items():
            self._undeliverable.note(topic, reason, time.monotonic())
        for record, reason in done.rejected:
            for delivery, outcome in self._finished.items():
                if any(one is record for one in outcome.records):
                    self._leave_out(delivery, outcome, {record.topic: reason})
        deferred = {share.topic for share in shares}.difference(done.topics)
        for source in self._connection.sources:
            if source.topic in deferred:
                source.refresh()
        return deferred

    def _leave_out_given_up(self) -> None:
        """Publish outcomes without what is for topics that were given up, so that it does not hold up all others."""
        given_up = self._undeliverable.given_up(time.monotonic())
        given_up.pop(self._answerer.dead_letters, None)  # without that there is nobody left to tell
        if not given_up:
            return
        for delivery, outcome in self._finished.items():
            if why := {record.topic: given_up[record.topic] for record in outcome.records if record.topic in given_up}:
                self._leave_out(delivery, outcome, why)

    def _leave_out(self, delivery: Delivery, outcome: Outcome, why: Mapping[str, str]) -> None:
        _log.error("task %s: the brokers refuse what is for %s", delivery.name, ", ".join(sorted(why)))
        self._finished[delivery] = self._answerer.undeliverable(delivery, outcome, why)

    def _left_out(self, topics: Collection[str]) -> Unpublished:
        """The finished tasks with a record for one of these topics."""
        left_out: defaultdict[Partition, set[int]] = defaultdict(set)
        for delivery, outcome in self._finished.items():
            if any(record.topic in topics for record in outcome.records):
                left_out[delivery.partition].add(delivery.offset)
        return left_out

    def _tellable(self, delivery: Delivery, left_out: Unpublished) -> bool:
        partition, offset = delivery.partition, delivery.offset
        return offset not in left_out.get(partition, ()) and self._offsets.tellable(partition, offset, left_out)

    def _shares(self, finished: Mapping[Delivery, Outcome], left_out: Unpublished) -> list[Share]:
        commits = self._offsets.to_commit(left_out)
        shares = [
            Share(
                source.topic,
                [
                    record
                    for delivery, outcome in finished.items()
                    if delivery.partition[0] == source.topic
                    for record in outcome.records
                ],
                source.group,
                {partition: commit for partition, commit in commits.items() if partition[0] == source.topic},
            )
            for source in self._connection.sources
        ]
        return [share for share in shares if share.records or share.commits]
