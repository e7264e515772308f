"""The commit cycle: attempts are committed before they begin, outcomes with the progress that they stand for."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping

from forebay_schemas.metrics import WorkerMetrics

from . import traces
from .answer import Answerer
from .commit import Committed, Share
from .connection import Connection
from .counting import count
from .lanes import Delivery
from .offsets import OffsetTracker, Partition
from .outcome import Outcome
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
            if not await self.commit(patient=True):
                await asyncio.sleep(RETRY_COMMIT_S)

    async def commit_for_good(self) -> None:
        """Commit before the chance is gone: where topics are refused, a second time without what is for them."""
        if not await self.commit(patient=False):
            await self.commit(patient=False)

    async def commit(self, *, patient: bool) -> bool:
        """Publish what is finished with the progress it stands for; False when some of it has to be tried again.

        Args:
            patient: whether topics that are refused may still appear, before what is for them is given up.
        """
        async with self.lock:
            self._news.clear()
            self._leave_out_given_up()
            # More may come while these are published.
            finished = {one: outcome for one, outcome in self._finished.items() if self._tellable(one)}
            entering = [one for one in self._entering if self._tellable(one)]
            shares = self._shares(finished)
            began_ms = time.time() * 1000
            done = await self._connection.publisher.commit(shares) if shares else Committed()
            refused = self._note(shares, done, patient)
            for delivery in finished:
                if delivery.partition[0] not in refused and (outcome := self._finished.pop(delivery, None)):
                    count(self._metrics, delivery, outcome)
                    if delivery.span is not None:
                        traces.committed(delivery.span, delivery, outcome, began_ms)
                    self._on_published(delivery)
            for delivery in entering:
                # One that was withdrawn meanwhile is not here any more.
                if delivery.partition[0] not in refused and delivery in self._entering:
                    del self._entering[delivery]
                    self._on_entered(delivery)
            if any(map(self._tellable, (*self._finished, *self._entering))):
                self._news.set()
            self._on_committed()
            return not refused

    def _note(self, shares: list[Share], done: Committed, patient: bool) -> set[str]:
        """Take down what the brokers took; returns the topics whose share has to be tried again."""
        for share in shares:
            self._metrics.commits.labels("committed" if share.topic in done.topics else "aborted").inc()
            if share.topic in done.topics:
                self.fruitful = True
                self._offsets.committed(share.commits)
                self._undeliverable.accepted(record.topic for record in share.records)
        for topic, reason in done.refused.items():
            self._undeliverable.note(topic, reason, time.monotonic(), patient=patient)
        for record, reason in done.rejected:
            for delivery, outcome in self._finished.items():
                if any(one is record for one in outcome.records):
                    self._leave_out(delivery, outcome, {record.topic: reason})
        refused = {share.topic for share in shares}.difference(done.topics)
        for source in self._connection.sources:
            if source.topic in refused:
                source.refresh()
        return refused

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

    def _tellable(self, delivery: Delivery) -> bool:
        return self._offsets.tellable(delivery.partition, delivery.offset)

    def _shares(self, finished: Mapping[Delivery, Outcome]) -> list[Share]:
        commits = self._offsets.to_commit()
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
