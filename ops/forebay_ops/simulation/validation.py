"""How far the simulation of a trace is from what its replay through the real pipeline came to.

What is compared is the later part of the replay, and the simulation is told nothing of it: only when its requests came
and what they asked. How generations go it has learned from the part before.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import Lane

from .behaviour import Behaviour
from .decisions import tiers_of
from .figures import Figures, added
from .ledger import LedgerTraffic
from .play import play
from .quality import quality_of
from .sums import count, figures_of, recorded_figures
from .traffic import COMPLETION, GENERATED, PROMPT, UNKNOWN, Floats, Ints, Recorded, Traffic

GOAL = 0.02
"""Most that a figure may be off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """A figure as the replay's ledger tells it, and as the simulation predicts it.

    Attributes:
        recorded, predicted: a share in [0, 1], or US dollars.
        relative: whether the deviation is that from the recorded figure; else it is the difference of two shares.
    """

    what: str
    recorded: float
    predicted: float
    is_share: bool
    relative: bool

    @property
    def off(self) -> float:
        """How far the prediction is off, below zero where it says less."""
        difference = self.predicted - self.recorded
        return difference / self.recorded if self.relative and self.recorded else difference

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return abs(self.off) <= GOAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Both sides, over the later requests of the trace.

    Attributes:
        learned: answers of the first part, from which the simulation knows how generations go.
        compared: requests of the later part that the replay answered.
        unanswered: those of that part that it did not; they are left out.
        chance: by how much the cost differs by chance alone, as a share, in 95 of 100 cases, where as many answers to
            new questions are given at the same tiers: a prediction from the first part cannot be surer.
    """

    learned: int
    compared: int
    unanswered: int
    chance: float
    recorded: Figures
    predicted: Figures

    @property
    def deviations(self) -> list[Deviation]:
        return list(_deviations(self.recorded, self.predicted))


def validate(
    trace: Traffic, learned: LedgerTraffic, replay: LedgerTraffic, config: Config, run: str, first: int
) -> Validation:
    """Predict what became of a trace behind its first requests, and compare.

    Args:
        learned: the replay of the first requests; all that the prediction knows of any answer.
        replay: the replay of all.
        run: its name.
        first: how many requests the first part has.

    Raises:
        ForebayError: the ledger is not that of the trace's replay, or one of the parts has no answer.
    """
    number = replay.number
    if number.max() >= len(trace) or len(np.unique(number)) < len(number):
        raise ForebayError(
            f"the ledger has answers to {number.max() + 1:,} requests of one replay, the trace {len(trace):,}; give the"
            " trace as it was played (`forebay replay --write`) and the name of its run (--run)"
        )
    later = np.flatnonzero(number >= first)
    if not len(later):
        raise ForebayError(
            f"the replay answered none of the requests behind the first {first:,}; give a smaller --first"
        )
    expected, behaviour = as_learned(trace, learned, config)
    played = play(expected, config, behaviour, run=run)
    cells = count(expected, played, config, quality_of(expected, list(config.tiers)), number[later])
    labelled = replace(
        replay.traffic,
        label=trace.label[number],
        right={tier: column[number] for tier, column in trace.right.items()},
    )
    recorded = added(recorded_figures(labelled, replay.recorded, config, later).values())
    once = _generated_once(trace, learned)
    generated = later[np.isin(replay.recorded.status[later], GENERATED)]
    new = ~np.isin(trace.question[number[generated]], trace.question[learned.number[once]])
    return Validation(
        learned=len(learned.number),
        compared=len(later),
        unanswered=len(trace) - first - len(later),
        chance=_error(learned.recorded, once, int(new.sum())) / recorded.cost if recorded.cost else 0.0,
        recorded=recorded,
        predicted=added(figures_of(cells, expected, played.tier, config, behaviour).values()),
    )


def as_learned(trace: Traffic, learned: LedgerTraffic, config: Config) -> tuple[Traffic, Behaviour]:
    """The trace, whose generations take as long, have as many tokens and are cut off as those that a ledger tells of.

    A question that was generated there goes as it went there. The others of a tier and lane are dealt what was
    generated at that tier and on that lane, one after the other: each question once, because one that is generated
    again and again says no more of those that are still to come. Their answers are all as long as the mean of these,
    which makes sums surer than dealing the lengths too. A prompt that is longer than the one that was dealt has more
    tokens, by the slope of tokens over characters.

    Raises:
        ForebayError: nothing was generated there.
    """
    generated = np.flatnonzero(np.isin(learned.recorded.status, GENERATED))
    if not len(generated):
        raise ForebayError("the first part of the replay has no generated answer to learn from; give a larger --first")
    asked = learned.number[generated]
    once = _generated_once(trace, learned)
    wanted = _pools(trace, tiers_of(trace, config)[trace.case])
    there = _pools(learned.traffic, learned.recorded.tier)[once]
    dealt, length = np.empty(len(trace), dtype=np.int64), np.empty(len(trace))
    for pool in np.unique(wanted):
        rows, alike = np.flatnonzero(wanted == pool), once[there == pool]
        known = alike if len(alike) else once
        dealt[rows] = np.resize(known, len(rows))
        length[rows] = learned.traffic.tokens[known, COMPLETION].mean()
    again = np.full(trace.neighbours.questions, UNKNOWN)
    again[trace.question[asked]] = generated
    new = again[trace.question] == UNKNOWN
    dealt = np.where(new, dealt, again[trace.question])
    dealt[asked] = generated  # of a question that was generated more than once, each its own
    tokens, chars = learned.traffic.tokens[dealt], trace.chars[learned.number]
    slope, _ = _line(chars[generated], learned.traffic.tokens[generated, PROMPT])
    tokens[:, PROMPT] += np.rint(slope * (trace.chars - chars[dealt])).astype(np.int64)
    tokens[new, COMPLETION] = np.rint(length[new])
    each_ms = learned.behaviour.each_ms
    expected = replace(
        trace,
        tokens=tokens,
        told=np.ones(len(trace), dtype=bool),
        complete=learned.traffic.complete[dealt],
    )
    return expected, replace(learned.behaviour, each_ms=None if each_ms is None else each_ms[dealt])


def _generated_once(trace: Traffic, learned: LedgerTraffic) -> Ints:
    """The rows of a ledger in which a question was generated for the first time."""
    generated = np.flatnonzero(np.isin(learned.recorded.status, GENERATED))
    return generated[np.unique(trace.question[learned.number[generated]], return_index=True)[1]]


def _error(recorded: Recorded, known: Ints, new: int) -> float:
    """Half the width of a 95 % interval (normal): what new answers cost, less what the known ones let expect.

    US dollars; the tiers of the new ones count as known.
    """
    costs = recorded.cost[known]
    _, tier = np.unique(recorded.tier[known], return_inverse=True)
    spread = (costs - (np.bincount(tier, costs) / np.bincount(tier))[tier]).std()
    return float(1.96 * spread * (new**2 / len(known) + new) ** 0.5)


def _line(x: Ints, y: Ints) -> Floats:
    """Slope and height of the line through points with the least squares."""
    return np.linalg.lstsq(np.stack((x, np.ones_like(x)), axis=1), y)[0]


def _pools(traffic: Traffic, tier: Ints) -> Ints:
    """Of each row a number for its tier and lane."""
    batch = np.array([kind.lane is Lane.BATCH for kind in traffic.kinds])
    return 2 * tier + batch[traffic.kind]


def _deviations(recorded: Figures, predicted: Figures) -> Iterator[Deviation]:
    def share(what: str, one: float, other: float, relative: bool = False) -> Deviation:
        return Deviation(what=what, recorded=one, predicted=other, is_share=True, relative=relative)

    def money(what: str, one: float, other: float) -> Deviation:
        return Deviation(what=what, recorded=one, predicted=other, is_share=False, relative=True)

    yield share("hit rate", recorded.hit_rate, predicted.hit_rate, relative=True)
    for kind in ("exact", "semantic", "joined"):
        one, other = (each.share(getattr(each, kind)) for each in (recorded, predicted))
        yield share(kind, one, other)
    for tier in predicted.by_tier:
        yield share(f"of those generated, {tier}", recorded.tier_share(tier), predicted.tier_share(tier))
    yield money("cost", recorded.cost, predicted.cost)
    yield money("largest tier", recorded.baseline_cost, predicted.baseline_cost)
    if recorded.wrong_share is not None and predicted.wrong_share is not None:
        yield share("given the answer to another question", recorded.wrong_share, predicted.wrong_share)
