"""vCache's algorithm as a player, for comparison: a model an entry, an error bound a prompt.

Written from Schroeder et al., "vCache: Verified Semantic Prompt Caching" (arXiv 2502.03771), Algorithms 1 and 2. Each
entry fits a logistic curve of "right" over similarity to its own labels; for a new prompt it explores with the least
probability tau that keeps the chance of a wrong hit at delta, over confidence levels of the curve's threshold. Where
the labels are separable the threshold has no variance by the likelihood, and takes the values that the authors
publish with their code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from .playing import Near

_LEAST_LABELS = 4
"""An entry with fewer explores always."""
_LEVELS = np.linspace(1e-6, 1 - 1e-6, 50)
_QUANTILES = np.array([NormalDist().inv_cdf(1 - level) for level in _LEVELS])
"""Of the threshold: with confidence ``1 - level`` it is no higher."""
_MOST_SLOPE = 2_000.0
_STEPS = 100
_LONGEST_STEP = 20.0
"""Separable labels drive the slope to infinity; it goes there in steps."""
_SEPARABLE_VARIANCE = (
    0.035445, 0.028285, 0.026436, 0.021349, 0.019371, 0.012615, 0.011433, 0.010228, 0.009963, 0.009253, 0.011674,
    0.013015, 0.010897, 0.011841, 0.013081, 0.010585, 0.014255, 0.012058, 0.013002, 0.011715, 0.00839, 0.008839,
    0.010628, 0.009899, 0.008033, 0.00457, 0.007335, 0.008932, 0.00729, 0.007445, 0.00761, 0.011423, 0.011233,
    0.006783, 0.005233, 0.00872, 0.010005, 0.01199, 0.00977, 0.01891, 0.01513, 0.02109, 0.01531,
)  # fmt: skip
"""By number of labels, from 6 on."""
_SEPARABLE_FROM = 6


@dataclass(frozen=True, slots=True)
class Curve:
    """P(right) over similarity s is ``1 / (1 + exp(-slope (s - threshold)))``; the threshold has a variance."""

    slope: float
    threshold: float
    variance: float


@dataclass(slots=True)
class _Entry:
    # Two labels that hold for every entry: nothing in common is wrong, the same question is right.
    similarities: list[float] = field(default_factory=lambda: [0.0, 1.0])
    rights: list[bool] = field(default_factory=lambda: [False, True])
    curve: Curve | None = None


class VcachePlayer:
    """One stream under vCache; answers whose neighbour was right are not cached, as in the paper."""

    keeps_all = False

    def __init__(self, delta: float, seed: int) -> None:
        self._delta = delta
        self._random = np.random.default_rng([seed, 3])
        self._entries: dict[int, _Entry] = {}
        self._asked: dict[int, Near] = {}

    def ask(self, place: int, near: Sequence[Near]) -> bool:
        if not near:
            return False
        nearest = near[0]
        entry = self._entries.get(nearest.place)
        if entry and len(entry.rights) >= _LEAST_LABELS + 2:
            entry.curve = entry.curve or fit(np.array(entry.similarities), np.array(entry.rights, dtype=float))
            if self._random.random() > exploration(nearest.similarity, entry.curve, self._delta):
                return True
        self._asked[place] = nearest
        return False

    def label(self, place: int, right: bool) -> bool:
        nearest = self._asked.pop(place)
        entry = self._entries.setdefault(nearest.place, _Entry())
        entry.similarities.append(nearest.similarity)
        entry.rights.append(right)
        entry.curve = None
        return True


def exploration(similarity: float, curve: Curve, delta: float) -> float:
    """tau: the probability of generating at which the chance of a wrong answer is delta (at most 0: none needed)."""
    thresholds = np.clip(curve.threshold + _QUANTILES * np.sqrt(curve.variance), 0.0, 1.0)
    right = (1.0 - _LEVELS) / (1.0 + np.exp(np.clip(-curve.slope * (similarity - thresholds), -500, 500)))
    return float((1.0 - delta / (1.0 - right)).min())


def fit(similarities: npt.NDArray[np.float64], rights: npt.NDArray[np.float64]) -> Curve:
    """The likeliest curve through an entry's labels, by Newton's method."""
    design = np.stack([np.ones_like(similarities), similarities], axis=1)
    weights = np.array([0.0, 1.0])
    for _ in range(_STEPS):
        expected = _logistic(design @ weights)
        step = np.linalg.solve(_information(design, expected), design.T @ (rights - expected))
        longest = float(np.abs(step).max())
        weights = weights + min(1.0, _LONGEST_STEP / max(longest, 1e-12)) * step
        if longest < 1e-6 or abs(weights[1]) > _MOST_SLOPE:
            break
    offset, slope = float(weights[0]), max(float(weights[1]), 1e-6)
    lowest_right, highest_wrong = similarities[rights == 1].min(), similarities[rights == 0].max()
    if lowest_right > highest_wrong:
        middle = (lowest_right + highest_wrong) / 2
        known = min(len(rights) - _SEPARABLE_FROM, len(_SEPARABLE_VARIANCE) - 1)
        return Curve(slope, float(middle), _SEPARABLE_VARIANCE[max(0, known)])
    gradient = np.array([-1 / slope, offset / slope**2])  # of the threshold, -offset / slope: the delta method
    covariance = np.linalg.inv(_information(design, _logistic(design @ weights)))
    variance = float(gradient @ covariance @ gradient)
    return Curve(slope, min(max(-offset / slope, 0.0), 1.0), max(0.0, variance))


def _information(design: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (design * (expected * (1 - expected))[:, None]).T @ design + 1e-9 * np.eye(2)


def _logistic(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -500, 500)))
