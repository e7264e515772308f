"""Runs a benchmark: its sides warm, in turn and several times, and what their rounds come to beside the baseline."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

from .process import Process

Measure = Callable[[], Mapping[str, float]]
"""Measures one side once; the names of the figures carry their units, as in ``p95_ms``."""

Say = Callable[[str], None]
"""Takes one line that says what is being done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a figure of a side should be at the median.

    Attributes:
        of: what the bounds are for: the ratio to the baseline, what there is more than at the baseline, or the figure
            itself.
    """

    side: str
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    of: Literal["ratio", "difference", "figure"] = "ratio"

    def __str__(self) -> str:
        times = {"ratio": "x", "difference": " more", "figure": ""}[self.of]
        bounds = [("at least", self.at_least), ("at most", self.at_most)]
        return " and ".join(f"{word} {bound:g}{times}" for word, bound in bounds if bound is not None)

    def met(self, value: float) -> bool:
        """Whether a value of that kind reaches the goal."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured against what.

    Attributes:
        sides: by name. The baseline of a metric is the first side that reports it.
        goals: what the medians should reach.
        facts: what is found out once and not in rounds; read when the rounds are over.
        processes: all that runs for it, to be looked into (``profile``); none where that makes no sense.
    """

    sides: Mapping[str, Measure]
    goals: tuple[Goal, ...] = ()
    facts: dict[str, str | float] = field(default_factory=dict)
    processes: Sequence[Process] = ()


Start = Callable[[Say], AbstractContextManager[Bench]]
"""Brings up what a benchmark needs, and takes it down in the end."""

Group = Callable[[Say], AbstractContextManager[Mapping[str, Start]]]
"""Brings up what several benchmarks share that are measured one after the other; gives them by name."""


def one_of(group: Group, name: str) -> Start:
    """One of several, by itself."""

    @contextmanager
    def start(say: Say) -> Iterator[Bench]:
        with group(say) as benchmarks, benchmarks[name](say) as bench:
            yield bench

    return start


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One metric of one side.

    Attributes:
        rounds: what each round gave, in order.
        ratio: the median of the rounds' ratios to the baseline in the same round, so that a machine that grows
            slower between rounds changes nothing. None for the baseline itself, and where that was zero.
        difference: the median of what each round has more than the baseline; None where no goal is about that.
        goal: all that there are for it, with semicolons between.
        met: whether all of them are; None where there is none, or no ratio to judge.
    """

    metric: str
    side: str
    rounds: list[float]
    median: float
    low: float
    high: float
    ratio: float | None = None
    difference: float | None = None
    goal: str | None = None
    met: bool | None = None


def measure(bench: Bench, rounds: int, say: Say) -> list[Figure]:
    """Warm every side up with a measurement that does not count, then measure all of them in each round.

    Every other round goes through the sides backwards, so that none is always the one behind a certain other.
    """
    for side, run in bench.sides.items():
        say(f"warming up: {side}")
        run()
    sides = list(bench.sides)
    taken: list[dict[str, Mapping[str, float]]] = []
    for number in range(rounds):
        values: dict[str, Mapping[str, float]] = {}
        for side in sides if number % 2 == 0 else reversed(sides):
            say(f"round {number + 1} of {rounds}: {side}")
            values[side] = bench.sides[side]()
        taken.append(values)
    return figures(taken, sides, bench.goals)


def figures(
    rounds: Sequence[Mapping[str, Mapping[str, float]]], sides: list[str], goals: Iterable[Goal]
) -> list[Figure]:
    """What the rounds come to: by metric, in the order in which the sides report them, the baseline first."""
    goals = tuple(goals)
    metrics = dict.fromkeys(metric for side in sides for metric in rounds[0][side])
    found = []
    for metric in metrics:
        reporting = [side for side in sides if metric in rounds[0][side]]
        base = [values[reporting[0]][metric] for values in rounds]
        for side in reporting:
            mine = [values[side][metric] for values in rounds]
            wanted = [goal for goal in goals if (goal.side, goal.metric) == (side, metric)]
            found.append(_figure(metric, side, mine, None if side == reporting[0] else base, wanted))
    return found


def _figure(metric: str, side: str, values: list[float], base: list[float] | None, goals: Sequence[Goal]) -> Figure:
    pairs = list(zip(values, base or (), strict=base is not None))
    ratio = statistics.median(value / baseline for value, baseline in pairs) if base and all(base) else None
    difference = statistics.median(value - baseline for value, baseline in pairs) if base else None
    median = statistics.median(values)
    judged = {"ratio": ratio, "difference": difference, "figure": median}
    met = [None if (value := judged[goal.of]) is None else goal.met(value) for goal in goals]
    return Figure(
        metric=metric,
        side=side,
        rounds=values,
        median=median,
        low=min(values),
        high=max(values),
        ratio=ratio,
        difference=difference if any(goal.of == "difference" for goal in goals) else None,
        goal="; ".join(map(str, goals)) or None,
        met=None if not met or None in met else all(met),
    )


def percentiles(values: Iterable[float], prefix: str = "", shares: Sequence[float] = (50, 95)) -> dict[str, float]:
    """``p50_ms`` and so on of durations in milliseconds, the smallest values that so many do not exceed.

    Args:
        shares: percent; 99.9 is called ``p999_ms``.
    """
    ordered = sorted(values)
    return {
        f"{prefix}p{share:g}_ms".replace(".", ""): ordered[ceil(round(len(ordered) * share / 100, 6)) - 1]
        for share in shares
    }
