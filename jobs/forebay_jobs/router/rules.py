"""Features to a complexity by fixed weights: what holds where no learned scorer fits."""

from collections.abc import Mapping
from typing import NamedTuple

_WEIGHTS = {
    "length": 0.25,
    "analytical": 0.35,
    "creative": 0.15,
    "context": 0.15,
    "steps": 0.30,
    "code": 0.25,
    "maths": 0.20,
    "format": 0.10,
}
"""What each feature adds at most. Set by hand from what the features mean: a plain factual question stays below
0.3, two strong signs lie between 0.3 and 0.7, an analysis in several steps with code or figures above."""

_BASE = 0.08


class Score(NamedTuple):
    """How hard a request is.

    Attributes:
        complexity: in [0, 1].
        recognised: whether the kind of question is known.
    """

    complexity: float
    recognised: bool


def score(features: Mapping[str, float]) -> Score:
    """The complexity of a request by its features."""
    return Score(min(1.0, sum(contributions(features).values())), bool(features["recognised"]))


def contributions(features: Mapping[str, float]) -> dict[str, float]:
    """What each feature adds to the complexity, and what every request has."""
    return {"any request": _BASE} | {name: weight * features[name] for name, weight in _WEIGHTS.items()}
