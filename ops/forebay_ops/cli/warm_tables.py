"""How `forebay warm` shows its progress, and what it came to."""

import time
from collections.abc import Iterator

from forebay_jobs.reuse.eligibility import Reuse
from forebay_schemas.records import CacheStatus
from rich.console import Console

from ..figures import money, roughly
from ..warming.run import Tally
from ..warming.sieve import Sieve
from .progress import ConsoleProgress
from .tables import figures_table

_CACHED = {
    CacheStatus.EXACT: "cached already",
    CacheStatus.SEMANTIC: "a similar question is cached already",
    CacheStatus.JOINED: "joined one in flight",
}
_USELESS = {
    Reuse.POLICY: "the request or its category forbids reuse",
    Reuse.TEMPERATURE: "its temperature asks for variety",
    Reuse.TIME_SENSITIVE: "the answer depends on when it is asked",
    Reuse.USER_SPECIFIC: "the answer depends on who asks",
}


class Pace:
    """Shows how far a run is, how fast it goes, and how long it takes if it goes on like that.

    Args:
        total: requests that will be asked.
    """

    def __init__(self, progress: ConsoleProgress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._began_s = time.monotonic()

    def __call__(self, tally: Tally) -> None:
        rate = tally.settled / max(0.001, time.monotonic() - self._began_s)
        left = f", {roughly((self._total - tally.settled) / rate)} left" if rate else ""
        failed = f", {tally.failed.total():,} failed" if tally.failed else ""
        self._progress.counting(
            f"{tally.settled:,} of {self._total:,}, {rate:.1f} a second{left}: {tally.cached.total():,} cached already,"
            f" {tally.generated:,} generated{failed}; {money(tally.cost)}"
        )


def show(console: Console, planned: Sieve, tally: Tally | None = None) -> None:
    """The figures of a run; without a tally those of one that would be."""
    table = figures_table("", "requests")
    for what, count in _lines(planned, tally):
        table.add_row(what, f"{count:,}")
    if tally is not None:
        table.add_row("cost", money(tally.cost))
    console.print(table)


def _lines(planned: Sieve, tally: Tally | None) -> Iterator[tuple[str, int]]:
    if tally is None:
        yield "to ask", planned.passed
    else:
        yield "asked", tally.asked
        yield from _outcomes(tally)
        if left := planned.passed - tally.settled:
            yield "left, not answered", left
    if planned.known:
        yield "answered by the run before", planned.known
    if planned.repeated:
        yield "equal to another of them", planned.repeated
    for reason, count in planned.useless.items():
        yield f"not asked: {_USELESS[reason]}", count


def _outcomes(tally: Tally) -> Iterator[tuple[str, int]]:
    for status, what in _CACHED.items():
        if tally.cached[status]:
            yield f"  {what}", tally.cached[status]
    yield "  generated", tally.generated
    if tally.unkept:
        yield "    of these cut off or doubtful: no cache keeps them", tally.unkept
    for code, count in tally.failed.items():
        yield f"  failed: {code}", count
