"""A load on an installation's request topic, sent by one process and checked by another."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from forebay_schemas.config import Config

from .checker import Checked, Expected
from .deck import Deck, new_run
from .generator import Order, Sent
from .harness import percentiles
from .process import BenchFailed
from .rig import Rig

SILENCE_S = 60.0
"""Without a single reply for so long, the missing ones are given up."""
_SHARES = (50, 95, 99)
_MANY = 1_000
"""Of fewer, the latency that 99.9 % do not exceed is the longest."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run whose every request got its one right reply.

    Attributes:
        requests_per_s: from the moment when the first one was due until the last reply was seen.
        latencies_ms: of each request, from when it was due until its reply was seen.
        late_ms: by how much the generator was late at most.
        statuses: how many replies there are of each cache status.
        mean_bytes: of a reply.
        lookup_ms: how long the job says that it waited for caches, on average; none of echoes.
    """

    requests_per_s: float
    latencies_ms: list[float]
    late_ms: float
    statuses: dict[str, int]
    mean_bytes: float
    lookup_ms: float | None

    def percentiles(self, prefix: str = "") -> dict[str, float]:
        """``p50_ms``, ``p95_ms``, ``p99_ms``, of many also ``p999_ms``, and ``max_ms``, as they were measured."""
        shares = _SHARES if len(self.latencies_ms) < _MANY else (*_SHARES, 99.9)
        return {**percentiles(self.latencies_ms, prefix, shares), f"{prefix}max_ms": max(self.latencies_ms)}


class Load:
    """The two processes for one deck. A run goes on in the deck where the last one stopped."""

    def __init__(self, it: Rig, config: Config, deck: Deck, statuses: Iterable[str] = ()) -> None:
        """
        Args:
            statuses: the cache statuses that replies may have; none: any.
        """
        self._deck = deck
        self._statuses = list(statuses)
        self._next = 0
        file = it.new_file("deck")
        deck.write(file)
        arguments = [str(it.write(config)), str(file)]
        self._generator, self._checker = (
            it.process(name, [sys.executable, "-m", f"forebay_ops.bench.{name}", *arguments], piped=True)
            for name in ("generator", "checker")
        )

    def run(self, count: int, rate_per_s: float | None = None) -> Run:
        """Send requests and wait for their replies.

        Args:
            rate_per_s: how many are due in a second; None: all at once.

        Raises:
            BenchFailed: a reply is missing, there is one too many, or one is wrong; or the deck has no more.
        """
        return self.finish(self.begin(count, rate_per_s))

    def begin(self, count: int, rate_per_s: float | None = None) -> Order:
        """Begin a run, and return while it goes on."""
        order = Order(run=new_run(), first=self._next, count=count, rate_per_s=rate_per_s)
        self._next += count
        if self._next > len(self._deck.cards) and not self._deck.over_and_over:
            most = f"{len(self._deck.cards):,} requests, each to be sent once"
            raise BenchFailed(f"this load has {most}, and more are needed: measure fewer rounds")
        expected = Expected(run=order.run, first=order.first, count=count, statuses=self._statuses, silence_s=SILENCE_S)
        self._checker.tell(expected)
        self._generator.tell(order)
        return order

    def finish(self, order: Order) -> Run:
        """Wait for the replies to a run that was begun."""
        sent, checked = self._generator.hear(Sent), self._checker.hear(Checked)
        missing = checked.seen_s.count(0.0)
        if missing or checked.repeats or checked.wrong:
            found = f"{missing} replies are missing, {checked.repeats} are repeats, {checked.wrong} are wrong"
            raise BenchFailed(f"of {order.count} requests {found}" + (f": {checked.example}" if checked.wrong else ""))
        rate = order.rate_per_s
        due_s = [sent.began_s + (number / rate if rate else 0.0) for number in range(order.count)]
        return Run(
            requests_per_s=order.count / (max(checked.seen_s) - sent.began_s),
            latencies_ms=[(seen - due) * 1000 for seen, due in zip(checked.seen_s, due_s, strict=True)],
            late_ms=sent.late_ms,
            statuses=checked.statuses,
            mean_bytes=checked.mean_bytes,
            lookup_ms=checked.lookup_ms,
        )


def cpu_s(it: Rig) -> float:
    """Processor time that the servers of a rig have used: all but the load generator and the checker."""
    return sum(process.cpu_s() for process in it.servers.values())
