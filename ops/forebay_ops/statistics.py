"""How sure a mean over prompts, or a share of cases, is: intervals, and how many prompts it takes to tell."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, pstdev

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2
_RESAMPLES = 2_000
"""Moves the ends of an interval by some 2 % of its width from seed to seed; ten times as many would by under 1 %."""
_MOST_NEEDED = 1_000_000
"""Above this no count helps: the mean lies on the tolerance."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and between which values the true one lies with a probability of ``CONFIDENCE``."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float], seed: int = 0, weights: Sequence[float] | None = None) -> Interval:
    """The mean of values in [-1, 1] over prompts, with its percentile bootstrap interval (Efron, 1979).

    Resampling cannot show what no prompt showed: of 10 equal answers it makes certainty. So the interval reaches at
    least as far as the exact binomial one for 0 of n, and for n of n, would.

    Args:
        weights: above 0, of each value in the mean; n is then of as many equal ones as tell the same (Kish, 1965).
    """
    n = len(values)
    rng = random.Random(seed)
    if weights is None:
        means = sorted(fmean(rng.choices(values, k=n)) for _ in range(_RESAMPLES))
        effective = n
    else:
        draws = (rng.choices(range(n), k=n) for _ in range(_RESAMPLES))
        means = sorted(fmean([values[row] for row in draw], [weights[row] for row in draw]) for draw in draws)
        effective = sum(weights) ** 2 / sum(weight**2 for weight in weights)
    unseen = _TAIL ** (1 / effective)
    return Interval(
        mean=fmean(values, weights),
        low=min(means[math.floor(_TAIL * _RESAMPLES)], unseen),
        high=max(means[math.ceil((1 - _TAIL) * _RESAMPLES) - 1], 1 - unseen),
    )


def share_interval(count: float, of: float) -> Interval:
    """A share of cases (``of`` above 0) with its score interval (Wilson, 1927): of few cases, and near 0 and 1, too."""
    z = NormalDist().inv_cdf(1 - _TAIL)
    share, weight = count / of, z * z / of
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / of + weight / (4 * of))
    return Interval(mean=share, low=max(0.0, middle - half), high=min(1.0, middle + half))


def least_prompts(tolerance: float) -> int:
    """Prompts below which even perfect agreement does not show a loss of at most ``tolerance`` (in (0, 1))."""
    return math.ceil(math.log(_TAIL) / math.log(1 - tolerance))


def prompts_needed(values: Sequence[float], tolerance: float) -> int | None:
    """About how many prompts would tell on which side of the tolerance the mean lies, if all go on as they do.

    None: more prompts are unlikely to tell.
    """
    distance = abs(tolerance - fmean(values))
    half = NormalDist().inv_cdf(1 - _TAIL) * pstdev(values)  # of the interval, times the root of the count
    if half > distance * math.sqrt(_MOST_NEEDED):
        return None
    return max(least_prompts(tolerance), math.ceil((half / distance) ** 2) if half else 0)
