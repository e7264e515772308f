"""Asks what is wanted on the batch lane, so many at once, and keeps account of what comes back."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from forebay_client import BrokerUnavailable, Client, ForebayError, Reply
from forebay_schemas.canonical import all_messages, category_of
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.prices import upper_bound
from forebay_schemas.records import CacheStatus, Lane, Request

from .journal import Journal
from .sieve import Wanted, to_send

_STEP_S = 0.2
"""How late an interruption, or the end of patience, may be noticed."""
_GENERATED = (CacheStatus.MISS, CacheStatus.BYPASS)
CHARS_PER_TOKEN = 3
"""Few texts have more tokens."""


@dataclass(slots=True)
class Tally:
    """What became of the requests so far.

    Attributes:
        cached: answered without a generation of their own, by how.
        unkept: of those generated, the ones that no cache keeps: cut off, empty, or doubtful.
        failed: by the error's code, or the kind of failure.
        cost: US dollars.
    """

    asked: int = 0
    cached: Counter[CacheStatus] = field(default_factory=Counter)
    generated: int = 0
    unkept: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    cost: float = 0.0

    @property
    def answered(self) -> int:
        return self.cached.total() + self.generated

    @property
    def settled(self) -> int:
        return self.answered + self.failed.total()

    def add(self, reply: Reply) -> None:
        self.cost += reply.cost
        if reply.error is not None:
            self.failed[reply.error.code] += 1
        elif reply.cache_status in _GENERATED:
            self.generated += 1
            self.unkept += reply.review or not reply.complete
        else:
            self.cached[reply.cache_status] += 1


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A request in flight, and the US dollars that are set aside for it."""

    wanted: Wanted
    may_cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a run is over though not all is asked.

    Attributes:
        in_flight: most requests that are awaited at once; what is in memory.
        until_s: seconds since the epoch; also the deadline of each request.
        patience_s: how long to wait for the next reply.
        max_usd: most that may be spent; None: any amount.
    """

    in_flight: int
    until_s: float
    patience_s: float
    max_usd: float | None


class Warming:
    """One run.

    Args:
        refresh: whether also what is cached is generated, and the new answers kept.
        told: is called several times a second.
        stopped: whether to send no more, and to take back what is not answered yet.

    Attributes:
        tally: what became of the requests so far.
    """

    def __init__(
        self,
        client: Client,
        config: Config,
        journal: Journal,
        limits: Limits,
        *,
        refresh: bool,
        told: Callable[[Tally], None],
        stopped: Callable[[], bool],
    ) -> None:
        self.tally = Tally()
        self._client = client
        self._config = config
        self._journal = journal
        self._limits = limits
        self._name = uuid.uuid4().hex[:8]
        self._refresh = refresh
        self._told = told
        self._stopped = stopped
        self._news = threading.Condition()  # replies come on the client's thread
        self._awaited: dict[str, _Awaited] = {}
        self._heard_s = time.monotonic()

    def run(self, wanted: Iterable[Wanted]) -> str | None:
        """Ask all of it. What is still awaited at an early end is taken back.

        Returns:
            Why the run ended before all was asked and settled; None if it did not.

        Raises:
            BrokerUnavailable: nothing can be sent, or no replies can be read.
        """
        try:
            for each in wanted:
                may_cost = 0.0 if self._limits.max_usd is None else upper_bound(each.request, self._config, Lane.BATCH)
                if why := self._wait_for(lambda may_cost=may_cost: not self._awaited or self._has_room(may_cost)):
                    return why
                if not self._has_room(may_cost):  # though nothing is awaited
                    return "the next answer may cost more than is left of --max-usd"
                self._ask(each, may_cost)
            return self._wait_for(lambda: not self._awaited)
        finally:
            self._take_back()

    def _wait_for(self, condition: Callable[[], bool]) -> str | None:
        """Wait until it holds; why the run is over, where it is before."""
        with self._news:
            self._told(self.tally)
            while not (why := self._why_over()) and not condition():
                self._news.wait(_STEP_S)
                self._told(self.tally)
        return why

    def _has_room(self, may_cost: float) -> bool:
        """Whether one more may be in flight, and be paid for even if it and all the others cost as much as they may."""
        with self._news:
            reserved = sum(each.may_cost for each in self._awaited.values())
            limit = self._limits.max_usd
            return len(self._awaited) < self._limits.in_flight and (
                limit is None or self.tally.cost + reserved + may_cost <= limit
            )

    def _why_over(self) -> str | None:
        if self._stopped():
            return "stopped"
        if time.time() > self._limits.until_s:
            return "the time of --within is over"
        if self._awaited and time.monotonic() - self._heard_s > self._limits.patience_s:
            return f"nothing came for {self._limits.patience_s:g} s; see with `forebay status` that job and workers run"
        return None

    def _ask(self, wanted: Wanted, may_cost: float) -> None:
        request = to_send(wanted, self._name, round(self._limits.until_s * 1000), self._refresh)
        with self._news:
            if not self._awaited:
                self._heard_s = time.monotonic()
            self._awaited[request.request_id] = _Awaited(wanted, may_cost)
            self.tally.asked += 1
        try:
            self._client.publish(request, on_reply=self._on_reply, on_failure=self._on_failure)
        except RecordError as error:
            self._on_failure(request.request_id, error)

    def _on_reply(self, reply: Reply) -> None:
        with self._news:
            awaited = self._awaited.pop(reply.request_id, None)
            if awaited is None:
                return  # taken back
            self.tally.add(reply)
            self._heard_s = time.monotonic()
            if reply.error is None:
                self._journal.note(awaited.wanted.key, self._lasts_s(awaited.wanted.request))
            self._news.notify_all()

    def _on_failure(self, request_id: str, error: ForebayError) -> None:
        with self._news:
            if self._awaited.pop(request_id, None) is not None:
                self.tally.failed[type(error).__name__] += 1
                self._news.notify_all()

    def _lasts_s(self, request: Request) -> int:
        """How long an answer that is generated now may be given to equal requests."""
        ttl_s = self._config.category(category_of(request)).exact_ttl_s
        return ttl_s if request.cache.ttl_s is None else min(ttl_s, request.cache.ttl_s)

    def _take_back(self) -> None:
        """Nobody waits any more, and its generation would cost."""
        with self._news:
            left, self._awaited = self._awaited, {}
        for request_id, awaited in left.items():
            with suppress(BrokerUnavailable):
                self._client.cancel(request_id, tenant=awaited.wanted.request.tenant)


def prompt_chars(request: Request) -> int:
    """Characters of what a model is shown of a request."""
    return sum(len(turn.content or "") for turn in all_messages(request)) + sum(map(len, request.passages))
