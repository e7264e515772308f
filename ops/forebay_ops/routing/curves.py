"""RouteLLM's protocol (Ong et al., 2024): accuracy against the share of calls that go to the strong model."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_RESAMPLES = 1_000
_BINS = 10


@dataclass(frozen=True, slots=True)
class Curve:
    """How a score routes, by all its thresholds.

    Attributes:
        share: of calls that go to the strong model, from 0 to 1.
        accuracy: of all answers at that share.
        recovered: share of the gap between weak and strong that is closed.
    """

    share: Floats
    accuracy: Floats
    recovered: Floats

    @property
    def apgr(self) -> float:
        """Mean of the recovered gap over all shares; one half for routing by lot."""
        return float(np.trapezoid(self.recovered, self.share))

    def cpt(self, recovered: float) -> float:
        """Least share of strong calls that recovers so much of the gap."""
        return float(self.share[np.argmax(self.recovered >= recovered)])


def curve(score: Floats, weak: Floats, strong: Floats) -> Curve:
    """The curve of a score, the highest going to the strong model first; equal scores go in random order.

    Args:
        weak, strong: 1 where the model's answer is good, else 0.
    """
    _, place, count = np.unique(-score, return_inverse=True, return_counts=True)
    gain = np.bincount(place, weights=strong - weak) / count  # expected of each of the equal ones
    recovered = np.concatenate(([0.0], np.cumsum(np.repeat(gain, count))))
    share = np.linspace(0, 1, len(recovered))
    gap = float((strong - weak).sum())
    return Curve(share, (weak.sum() + recovered) / len(weak), recovered / gap)


def apgr_interval(score: Floats, weak: Floats, strong: Floats) -> tuple[float, float]:
    """Percentile bootstrap interval (95 %) of the APGR over prompts."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, len(score), len(score)) for _ in range(_RESAMPLES))
    low, high = np.percentile([curve(score[each], weak[each], strong[each]).apgr for each in draws], [2.5, 97.5])
    return float(low), float(high)


def calibration_error(chances: Floats, right: Floats, weight: Floats | None = None) -> float:
    """Expected calibration error (Naeini et al., 2015): mean distance of chance and share, over ten bins of equal
    width, each with the weight of its answers; absent, that is 1 for each."""
    weight = np.ones(len(chances)) if weight is None else weight
    places = np.minimum((chances * _BINS).astype(int), _BINS - 1)
    distance = np.bincount(places, weights=weight * (chances - right), minlength=_BINS)
    return float(np.abs(distance).sum() / weight.sum())
