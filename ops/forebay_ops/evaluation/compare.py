"""Plays streams to all policies and adds up what came of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

import msgspec
import numpy as np
from forebay_jobs.reuse.estimator import Prior

from ..statistics import Interval, share_interval
from .playing import Conditions, Equality, Order, Played, order_of, play
from .policies import BoundedPlayer, FixedThresholds, best_within
from .streams import Say, Stream, StreamError
from .vcache import VcachePlayer

SHOWN_THRESHOLDS = (0.9, 0.95, 0.97, 0.98, 0.99)
HITS_GOAL = 0.95
"""Of the hits of the best fixed threshold with hindsight."""
WINDOW_REQUESTS = 2_000
"""At the beginning, and after a change, errors are told apart from those of the whole stream."""
SETTLED_REQUESTS = 3_000
"""After a change the last window before so many requests has to be within delta again."""
_POINTS = 200
"""Of a curve over time."""

VCACHE = "vCache"
BOUNDED = "bounded"
HINDSIGHT = "best fixed"
"""Threshold, picked with hindsight."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One policy on one stream at one delta, over all orders in which the stream was played.

    Shares are of all requests; ``sd`` is the standard deviation between orders, 0 for one.

    Attributes:
        delta: None where a policy knows none.
        errors_interval: for a stream of this length with the mean number of errors, 95 % (Wilson).
        errors_at_first: of the first ``WINDOW_REQUESTS``, while there are few labels.
        precision: right ones among the hits; None without hits.
        labels: mean number that were used.
        of_hindsight: hits for one hit of the best fixed threshold.
        after_change: share of the orders in which the window after a change is within delta's interval.
        decision_us: mean microseconds of the processor that a decision took.
    """

    policy: str
    delta: float | None
    hits: float
    hits_sd: float
    errors: float
    errors_sd: float
    errors_interval: Interval
    errors_at_first: float
    precision: float | None
    labels: float
    of_hindsight: float | None = None
    after_change: float | None = None
    decision_us: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the mean error is within delta."""
        return None if self.delta is None else self.errors <= self.delta

    @property
    def reuses_enough(self) -> bool | None:
        """Whether the hits meet ``HITS_GOAL``."""
        return None if self.of_hindsight is None else self.of_hindsight >= HITS_GOAL


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """Hits and errors over time, as shares of all requests so far, in the first order.

    Attributes:
        steps: requests so far, of each point.
    """

    policy: str
    delta: float
    steps: list[int]
    hits: list[float]
    errors: list[float]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All policies on one stream.

    Attributes:
        shuffles: orders it was played in; 0 is the file's own.
        curve: hits and errors of every fixed threshold, means over the orders.
    """

    stream: str
    questions: int
    classes: int
    shuffles: int
    conditions: Conditions
    rows: list[Row]
    courses: list[Course]
    curve: list[tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class _Passes:
    """One policy at one delta in each order."""

    played: list[Played]
    seconds: float = 0.0


def compare(
    stream: Stream,
    *,
    deltas: Sequence[float],
    seeds: Sequence[int | None],
    conditions: Conditions,
    prior: Prior,
    with_vcache: bool,
    say: Say,
) -> Comparison:
    """Play a stream to all policies.

    Args:
        seeds: of the orders; None is the file's own.

    Raises:
        StreamError: the stream ends too soon after a change to be judged.
    """
    share = conditions.change_at
    if share is not None and len(stream) - int(len(stream) * share) < SETTLED_REQUESTS:
        raise StreamError(
            f"{stream.name}: fewer than {SETTLED_REQUESTS:,} of its {len(stream):,} questions come after a change at"
            f" {share}; let it change earlier, or play a longer stream"
        )
    worlds = [(seed or 0, order_of(stream, seed), Equality(stream, conditions, seed or 0)) for seed in seeds]
    fixed: list[dict[float, Played]] = []
    for number, (_, order, equality) in enumerate(worlds, start=1):
        say(f"{stream.name}: fixed thresholds, order {number} of {len(worlds)}")
        fixed.append(FixedThresholds(stream, order, equality).all())
    rows = [_row(f"fixed {one:.2f}", None, _Passes([each[one] for each in fixed])) for one in SHOWN_THRESHOLDS]
    courses: list[Course] = []
    for delta in deltas:
        players: dict[str, Callable[[int], BoundedPlayer | VcachePlayer]] = {}
        if with_vcache:
            players[VCACHE] = lambda seed, delta=delta: VcachePlayer(delta, seed)
        players[BOUNDED] = lambda seed, delta=delta: BoundedPlayer(stream, delta, prior, seed)
        passes = {HINDSIGHT: _Passes([each[best_within(each, delta)] for each in fixed])}
        for name, player in players.items():
            passes[name] = _passes(stream, worlds, player, conditions, f"{name} at {delta:.2%}", say)
        best = fmean(one.hits for one in passes[HINDSIGHT].played)
        for name, of in passes.items():
            changed = worlds[0][2].changes_at if conditions.change_at is not None else None
            rows.append(_row(name, delta, of, best, changed))
            courses.append(_course(name, delta, of.played[0]))
    return Comparison(
        stream=stream.name,
        questions=len(stream),
        classes=len(np.unique(stream.classes)),
        shuffles=sum(seed is not None for seed in seeds),
        conditions=conditions,
        rows=rows,
        courses=courses,
        curve=[
            (one, fmean(each[one].hits for each in fixed), fmean(each[one].errors for each in fixed))
            for one in fixed[0]
        ],
    )


def _passes(
    stream: Stream,
    worlds: Sequence[tuple[int, Order, Equality]],
    player_of: Callable[[int], BoundedPlayer | VcachePlayer],
    conditions: Conditions,
    title: str,
    say: Say,
) -> _Passes:
    played: list[Played] = []
    seconds = 0.0
    for number, (seed, order, equality) in enumerate(worlds, start=1):
        player = player_of(seed)
        where = f"{stream.name}: {title}, order {number} of {len(worlds)}"
        told = lambda asked, where=where: say(f"{where}, {asked:,} of {len(stream):,} questions")  # noqa: E731
        played.append(play(stream, order, player, equality, conditions, seed, told))
        seconds += player.seconds if isinstance(player, BoundedPlayer) else 0.0
    return _Passes(played, seconds)


def _row(
    policy: str, delta: float | None, passes: _Passes, best: float | None = None, changed: int | None = None
) -> Row:
    played = passes.played
    count = len(played[0].reused)
    hits, errors = [one.hits for one in played], [one.errors for one in played]
    return Row(
        policy=policy,
        delta=delta,
        hits=fmean(hits),
        hits_sd=pstdev(hits),
        errors=fmean(errors),
        errors_sd=pstdev(errors),
        errors_interval=share_interval(round(fmean(errors) * count), count),
        errors_at_first=fmean(float(one.wrong[:WINDOW_REQUESTS].mean()) for one in played),
        precision=1 - fmean(errors) / fmean(hits) if any(hits) else None,
        labels=fmean(one.labels for one in played),
        of_hindsight=fmean(hits) / best if best else None,
        after_change=fmean(settled(one, changed, delta) for one in played) if changed and delta else None,
        decision_us=passes.seconds / (count * len(played)) * 1e6 if passes.seconds else None,
    )


def settled(played: Played, changed: int, delta: float) -> bool:
    """Whether the last whole window before ``SETTLED_REQUESTS`` after a change has no more errors than delta explains.

    Args:
        changed: step from which it holds.
    """
    end = changed + SETTLED_REQUESTS
    return int(played.wrong[end - WINDOW_REQUESTS : end].sum()) <= most_errors(delta)


def most_errors(delta: float) -> float:
    """In a window: delta's own number and the 95 % of its Poisson spread."""
    expected = WINDOW_REQUESTS * delta
    return expected + 1.96 * expected**0.5


def _course(policy: str, delta: float, played: Played) -> Course:
    count = len(played.reused)
    steps = np.unique(np.linspace(1, count, min(_POINTS, count)).astype(int))
    return Course(
        policy=policy,
        delta=delta,
        steps=steps.tolist(),
        hits=(np.cumsum(played.reused)[steps - 1] / steps).tolist(),
        errors=(np.cumsum(played.wrong)[steps - 1] / steps).tolist(),
    )
