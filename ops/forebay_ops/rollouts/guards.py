"""Whether a rollout does as well as the baseline: each guard holds, is broken, or is open. Pure.

Evidence is looked at again and again, so ordinary intervals would break a guard sooner or later by chance alone. These
are always valid: the mixture sequential probability ratio test with a normal mixture (Robbins, 1970; Johari et al.,
*Always Valid Inference*, 2017). With the variance V of an estimate and a mixture of variance t^2, the interval

    estimate +- sqrt(V (V + t^2) / t^2 * log((V + t^2) / (V a^2)))

misses the true value at any of all looks with a probability of at most a. So a rollout that is no worse than a guard
allows is ended by it with a probability of at most ``ALPHA``, and one that is worse passes it with at most that. Both
are asymptotic: shares are taken as normal from ``LEAST`` replies on, with one reply more of each kind than was seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import quantiles

from forebay_schemas.rollouts import Guards, Rollout, Stage

ALPHA = 0.05
"""Chance of each guard in each stage to be wrong."""
LEAST = 20
"""Replies of each arm from which a guard says anything."""
_ABOVE_P95 = 0.05


class State(StrEnum):
    """What a guard says."""

    HOLDS = "holds"
    """The rollout is sure to be within what is allowed."""
    OPEN = "open"
    """Nothing is sure yet."""
    BROKEN = "broken"
    """It is sure to be worse."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard's finding.

    Attributes:
        canary, baseline: what was measured in each arm, as shares in [0, 1]; of the guard ``slower`` P95 in
            milliseconds. None where nothing was.
        limit: the most (of ``agreement`` the least) that the canary may have, in the same unit.
        low, high: between which values the canary's excess lies: over the baseline, over 5 % of replies that take
            longer than the limit, and of the disagreement over what is allowed; what is at most 0 is as allowed.
    """

    name: str
    state: State
    canary: float | None = None
    baseline: float | None = None
    limit: float | None = None
    low: float = -1.0
    high: float = 1.0


@dataclass(slots=True)
class Figures:
    """What was counted of one arm in one stage."""

    replies: int = 0
    """Also those that were answered from a cache."""
    generated: int = 0
    failures: int = 0
    escalated: int = 0
    complaints: int = 0
    generation_ms: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Evidence:
    """What was counted for one rollout in its stage."""

    canary: Figures = field(default_factory=Figures)
    baseline: Figures = field(default_factory=Figures)
    compared: int = 0
    """Answers that a judge could compare."""
    agreed: int = 0

    @property
    def enough(self) -> int:
        """Generations in the smaller arm."""
        return min(self.canary.generated, self.baseline.generated)


class Move(StrEnum):
    """What follows from the guards."""

    STAY = "stay"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"


def judged(evidence: Evidence, limits: Guards, stage: Stage) -> list[Guard]:
    """The guards of a stage; at 100 % none, as there is nothing left to compare with."""
    if stage is Stage.ALL or not stage.live:
        return []
    canary, baseline = evidence.canary, evidence.baseline
    errors = _more(
        "errors", (canary.failures, canary.generated), (baseline.failures, baseline.generated), limits.errors
    )
    if stage is Stage.SHADOW:  # its generations fill what others leave, so how long they take says nothing
        agreement = _agreement(evidence.agreed, evidence.compared, limits.agreement)
        return [errors, agreement] if limits.agreement > 0 else [errors]
    return [
        errors,
        _slower(canary.generation_ms, baseline.generation_ms, limits.slower),
        _more(
            "escalations",
            (canary.escalated, canary.generated),
            (baseline.escalated, baseline.generated),
            limits.escalations,
        ),
        _more(
            "complaints",
            (canary.complaints, canary.replies),
            (baseline.complaints, baseline.replies),
            limits.complaints,
        ),
    ]


def decided(rollout: Rollout, evidence: Evidence, now_ms: int, *, caught_up: bool = True) -> tuple[Move, str]:
    """What is to become of a rollout, and why.

    Args:
        caught_up: whether the evidence is all that there is. A part of it may end a rollout, as an interval holds at
            every look; it promotes none, since what was read first may be old, of one topic, or of one arm.
    """
    guards = judged(evidence, rollout.guards, rollout.stage)
    if broken := [guard for guard in guards if guard.state is State.BROKEN]:
        return Move.ROLL_BACK, "; ".join(map(in_words, broken))
    if not guards:
        return Move.STAY, "it answers everybody: put its settings into the configuration, then finish it"
    if rollout.paused:
        return Move.STAY, "it is paused"
    left_s = rollout.since_ms / 1000 + rollout.guards.min_minutes * 60 - now_ms / 1000
    if left_s > 0:
        return Move.STAY, f"the stage lasts {math.ceil(left_s / 60)} more minutes at least"
    if (seen := evidence.enough) < rollout.guards.min_replies:
        return Move.STAY, f"{seen} of {rollout.guards.min_replies} generated replies in the smaller arm"
    if unsure := [guard.name for guard in guards if guard.state is State.OPEN]:
        return Move.STAY, f"not sure yet: {', '.join(unsure)}"
    if not caught_up:
        return Move.STAY, "what came since the stage began is not read to its end yet"
    return Move.PROMOTE, f"all guards hold over {evidence.canary.generated} replies"


def in_words(guard: Guard) -> str:
    """A finding as history tells it."""
    if guard.canary is None or guard.limit is None:
        return f"{guard.name}: {guard.state}"
    if guard.name == "slower":
        return f"slower: P95 {guard.canary:.0f} ms, above {guard.limit:.0f} ms"
    above = "below" if guard.name == "agreement" else "above"
    beside = "" if guard.baseline is None else f" ({guard.baseline:.1%} in the baseline)"
    return f"{guard.name}: {guard.canary:.1%}, {above} {guard.limit:.1%}{beside}"


def p95(values: Sequence[float]) -> float:
    """Of at least two values."""
    return quantiles(values, n=20, method="inclusive")[-1]


def _more(name: str, canary: tuple[int, int], baseline: tuple[int, int], margin: float) -> Guard:
    """That a share in the canary is no more than a margin above the baseline's."""
    if min(canary[1], baseline[1]) < LEAST:
        return Guard(name, State.OPEN)
    share, other = canary[0] / canary[1], baseline[0] / baseline[1]
    low, high = _interval(share - other, _variance(*canary) + _variance(*baseline), margin)
    return Guard(name, _state(low - margin, high - margin), share, other, other + margin, low - margin, high - margin)


def _slower(canary: Sequence[float], baseline: Sequence[float], factor: float) -> Guard:
    """That no more than 5 % of the canary's generations take longer than the factor of the baseline's P95: so its own
    P95 is no longer than that."""
    if min(len(canary), len(baseline)) < LEAST:
        return Guard("slower", State.OPEN)
    limit = factor * p95(baseline)
    above = sum(value > limit for value in canary)
    excess = above / len(canary) - _ABOVE_P95
    low, high = _interval(excess, _variance(above, len(canary)), _ABOVE_P95)
    return Guard("slower", _state(low, high), p95(canary), p95(baseline), limit, low, high)


def _agreement(agreed: int, compared: int, least: float) -> Guard:
    if compared < LEAST:
        return Guard("agreement", State.OPEN)
    share = agreed / compared
    low, high = _interval(least - share, _variance(agreed, compared), max(1 - least, 0.01))
    return Guard("agreement", _state(low, high), share, None, least, low, high)


def _variance(count: int, of: int) -> float:
    """Of a share of cases, with one more of each kind: of none that was seen it makes no certainty."""
    share = (count + 1) / (of + 2)
    return share * (1 - share) / of


def _interval(estimate: float, variance: float, scale: float) -> tuple[float, float]:
    """See the module; narrowest for effects about as large as ``scale``."""
    mixture = max(scale, 0.005) ** 2
    total = variance + mixture
    half = math.sqrt(variance * total / mixture * math.log(total / (variance * ALPHA**2)))
    return estimate - half, estimate + half


def _state(low: float, high: float) -> State:
    if low > 0:
        return State.BROKEN
    return State.HOLDS if high <= 0 else State.OPEN
