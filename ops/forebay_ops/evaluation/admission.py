"""What leaving questions out of the index saves in entries, and costs in hits: by rules at the door, and by eviction.

A rule looks at a question before its answer is kept. Eviction, which is what the job does, lets everything in, and
drops what is worth least by what it was good for, as `forebay_jobs.caches.sweeping` does.
"""

import re
import zlib
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from forebay_jobs.caches.answers import Worth
from forebay_jobs.caches.questions import Indexed
from forebay_jobs.caches.sweeping import PAGE, least_worth
from forebay_jobs.reuse.estimator import Prior

from ..reporting.tables import Table
from .playing import Conditions, Equality, Keeper, Played, order_of, play
from .policies import BoundedPlayer
from .streams import Say, Stream

_WORD = re.compile(r"\w+")
_NAME = re.compile(r"(?<=[\w,] )[A-Z]\w+")
"""A capital that does not begin a sentence."""
_STEP_MS = 1_000
"""Between two questions of a stream, for their ages."""
_ALIKE = 0.8


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One rule on one stream, means over the orders.

    Attributes:
        entries: in the index at the end.
        hits, errors: shares of all requests.
    """

    rule: str
    entries: float
    hits: float
    errors: float


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """All rules on one stream; the first lets everything in."""

    stream: str
    questions: int
    delta: float
    orders: int
    outcomes: list[Outcome]


class _Rule(Keeper):
    """Lets in what a function of the text does."""

    def __init__(self, stream: Stream, lets_in: Callable[[str], bool]) -> None:
        self._texts = stream.texts
        self._lets_in = lets_in

    def admits(self, step: int, place: int) -> bool:
        return self._lets_in(self._texts[place])


class _KnownWords(Keeper):
    """Lets in a question all of whose words were in earlier ones: what is about something new is asked once."""

    def __init__(self, stream: Stream) -> None:
        self._texts = stream.texts
        self._known: set[str] = set()
        self._all_known = False

    def asked(self, place: int) -> None:
        words = set(_WORD.findall(self._texts[place].lower()))
        self._all_known = words <= self._known
        self._known |= words

    def admits(self, step: int, place: int) -> bool:
        return self._all_known


class _SecondTime(Keeper):
    """Lets in a question when one like it was asked before, cached or not: the doorkeeper of TinyLFU, by meaning.

    It would take an index of everything that was asked, which is what is to be saved: a bound on what sketches reach.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._asked = np.zeros(len(stream), dtype=np.bool_)

    def asked(self, place: int) -> None:
        self._asked[place] = True

    def admits(self, step: int, place: int) -> bool:
        alike = self._stream.similarities[place] >= _ALIKE
        return bool(self._asked[self._stream.near[place][alike]].any())


class _Evicting(Keeper):
    """Lets everything in, and holds the index at a size by dropping what is worth least of a page's sample."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._draw = np.random.default_rng(1)
        self._entries: dict[int, Indexed] = {}
        self._hits: dict[int, int] = {}

    def admits(self, step: int, place: int) -> bool:
        self._entries[place] = Indexed(digest=str(place), category="", created_ms=step * _STEP_MS)
        return True

    def reused(self, place: int) -> None:
        self._hits[place] = self._hits.get(place, 0) + 1

    def drops(self, step: int) -> Sequence[int]:
        excess = len(self._entries) - self._size
        if excess < max(1, self._size // PAGE):
            return ()
        places = list(self._entries)
        sample = self._draw.choice(len(places), min(PAGE, len(places)), replace=False)
        known = [(self._entries[places[one]], Worth(hits=self._hits.get(places[one], 0))) for one in sample]
        dropped = [int(digest) for digest in least_worth(known, excess, step * _STEP_MS)]
        for place in dropped:
            del self._entries[place]
        return dropped


RULES: dict[str, Callable[[Stream], Keeper]] = {
    "everything": lambda stream: Keeper(),
    "every other, at random": lambda stream: _Rule(stream, lambda text: zlib.crc32(text.encode()) % 2 == 0),
    "at most 20 words": lambda stream: _Rule(stream, lambda text: len(text.split()) <= 20),
    "at most 12 words": lambda stream: _Rule(stream, lambda text: len(text.split()) <= 12),
    "no number": lambda stream: _Rule(stream, lambda text: not re.search(r"\d", text)),
    "no name": lambda stream: _Rule(stream, lambda text: not _NAME.search(text)),
    "no new word": _KnownWords,
    "one like it was asked before": _SecondTime,
}
SIZES = (0.75, 0.5, 0.25)
"""To which eviction holds the index, as shares of what it holds with everything let in."""


def admission(stream: Stream, delta: float, seeds: Sequence[int | None], prior: Prior, say: Say) -> Admission:
    """Play a stream to bounded reuse under every rule.

    Args:
        seeds: of the orders; None is the file's own.
    """

    def outcome(rule: str, keeper: Callable[[], Keeper]) -> Outcome:
        def told(asked: int) -> None:
            say(f"{stream.name}, {rule}: {asked:,} of {len(stream):,} questions asked")

        played: list[Played] = []
        for seed in seeds:
            number, order = seed or 0, order_of(stream, seed)
            player = BoundedPlayer(stream, delta, prior, number)
            equality = Equality(stream, Conditions(), number)
            played.append(play(stream, order, player, equality, Conditions(), number, told, keeper()))
        return Outcome(
            rule=rule,
            entries=float(np.mean([one.cached for one in played])),
            hits=float(np.mean([one.hits for one in played])),
            errors=float(np.mean([one.errors for one in played])),
        )

    outcomes = [outcome(rule, lambda make=make: make(stream)) for rule, make in RULES.items()]
    for share in SIZES:
        size = round(outcomes[0].entries * share)
        outcomes.append(outcome(f"everything, evicted to {share:.0%}", lambda size=size: _Evicting(size)))
    return Admission(stream=stream.name, questions=len(stream), delta=delta, orders=len(seeds), outcomes=outcomes)


def table(found: Admission) -> Table:
    """A row for each rule; entries and hits beside those without a rule."""
    everything = found.outcomes[0]
    return Table(
        name="admission",
        title=f"{found.stream}, {found.questions:,} questions, bounded at {found.delta:.2%}, orders: {found.orders}",
        columns=("let in", "entries", "left out", "hits", "hits kept", "errors"),
        rows=[
            (
                one.rule,
                f"{one.entries:,.0f}",
                f"{1 - one.entries / everything.entries:.1%}",
                f"{one.hits:.2%}",
                f"{one.hits / everything.hits:.1%}" if everything.hits else "-",
                f"{one.errors:.3%}",
            )
            for one in found.outcomes
        ],
    )
