"""Publishes the rows of a batch, each once, however often that is interrupted."""

import itertools
import time
from collections.abc import Callable

import msgspec
from forebay_schemas import batches
from forebay_schemas.batches import Stage
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.prices import upper_bound
from forebay_schemas.records import BatchState, Lane

from ..preparing import Preparation, Prepared
from .budget import Budget
from .errors import NothingToSend, expired
from .owner import Owner
from .rows import Row, Source

PORTION_ROWS = 5_000
PORTION_BYTES = 4_000_000
"""Of one transaction, which is open for well under a second then."""

Told = Callable[[BatchState], object]


class Sending:
    """One process's work on a batch: it goes on where the state says that the one before stopped.

    Args:
        budget: absent: the batch may cost what it costs.
        told: of the state after every transaction, and while replies are waited for.
    """

    def __init__(
        self,
        config: Config,
        preparation: Preparation,
        owner: Owner,
        source: Source,
        state: BatchState,
        budget: Budget | None,
        told: Told,
    ) -> None:
        self.state = state
        self._config = config
        self._preparation = preparation
        self._owner = owner
        self._source = source
        self._budget = budget
        self._told = told
        self._portion = _Portion()
        self._first_problem = ""

    def run(self, last: int) -> BatchState:
        """Publish what is left, up to a row; the state then.

        Raises:
            NothingToSend: no row makes a request that could be answered.
            BatchEnded: the completion window is over.
            BatchTakenOver: another process publishes the batch, or took it back.
            BrokerUnavailable: the brokers refuse, or do not answer.
        """
        if self._budget is not None:
            self._budget.go_on(itertools.islice(self._source.rows(), self.state.read), self._may_cost_of)
        stage = Stage.SENT if last >= self.state.rows else Stage.SAMPLED
        for row in self._source.rows(self.state.read):
            if row.number > last:
                break
            self._in_time()
            if not self._take(row):
                stage = Stage.CEILING
                break
            if self._portion.full:
                self._commit(Stage.SENDING)
        if stage == Stage.SENT and not self.state.sent and not self._portion.requests:
            raise NothingToSend(self._first_problem)
        self._commit(stage)
        return self.state

    def _take(self, row: Row) -> bool:
        """Take a row into the portion; False where it could pass the price ceiling."""
        try:
            prepared = prepare(row, self.state, self._preparation)
        except RecordError as error:  # it is told when results are written
            self._first_problem = self._first_problem or f"{row.place}: {error}"
            self._portion.add(None)
            return True
        if self._budget is not None:
            may_cost = self._may_cost(prepared)
            if not self._budget.has_room(may_cost):
                if self._portion.read:  # what is out may be answered, and leave room
                    self._commit(Stage.SENDING)
                for _ in self._budget.wait_for(may_cost):
                    self._in_time()
                    self._told(self.state)
                if not self._budget.has_room(may_cost):
                    return False
            self._budget.reserve(row.number, may_cost)
        self._portion.add(prepared)
        return True

    def _may_cost_of(self, row: Row) -> float | None:
        try:
            return self._may_cost(prepare(row, self.state, self._preparation))
        except RecordError:
            return None

    def _may_cost(self, prepared: Prepared) -> float:
        return upper_bound(prepared.request, self._config, Lane.BATCH)

    def _in_time(self) -> None:
        if time.time() * 1000 > self.state.deadline_ms:
            raise expired(self.state)

    def _commit(self, stage: Stage) -> None:
        portion, self._portion = self._portion, _Portion()
        state = msgspec.structs.replace(
            self.state,
            stage=stage,
            updated_ms=time.time_ns() // 1_000_000,
            read=self.state.read + portion.read,
            sent=self.state.sent + len(portion.requests),
        )
        self._owner.commit(state, portion.requests)
        self.state = state
        self._told(state)


def prepare(row: Row, state: BatchState, preparation: Preparation) -> Prepared:
    """The request that a row makes.

    Raises:
        RecordError: it makes none that can be answered.
    """
    if row.problem is not None:
        raise row.problem
    fields = dict(row.fields or ()) | {
        "request_id": batches.row_id(state.batch_id, row.number),
        "tenant": state.tenant,
        "lane": Lane.BATCH,
        "deadline_ms": state.deadline_ms,
    }
    return preparation.prepare(None, fields, None)


class _Portion:
    """Rows of one transaction: those that were worked on, and the requests that they made."""

    def __init__(self) -> None:
        self.read = 0
        self.requests: list[Prepared] = []
        self._bytes = 0

    def add(self, prepared: Prepared | None) -> None:
        """Take a row in; None: it was refused."""
        self.read += 1
        if prepared is not None:
            self.requests.append(prepared)
            self._bytes += len(prepared.value)

    @property
    def full(self) -> bool:
        return len(self.requests) >= PORTION_ROWS or self._bytes >= PORTION_BYTES
