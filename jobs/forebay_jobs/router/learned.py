"""The learned scorer: from features and a question's vector to each tier's chance of a good answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .features import FEATURES
from .grams import weighted
from .weights import Weights

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

_ROUNDING = 1e-6
_SUREST = 10.0
"""Logit beyond which no labels can vouch for a chance."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What something adds to the logit of each tier's chance."""

    name: str
    by_tier: dict[str, float]


class Scorer:
    """Weights, ready to be used. Safe to share between threads.

    Attributes:
        dimensions: length of the vectors that it reads.
    """

    def __init__(self, weights: Weights) -> None:
        tiers = len(weights.tiers)
        self.weights = weights
        self._by_vector = np.frombuffer(weights.by_vector, np.float32).reshape(-1, tiers)
        self._by_feature = np.frombuffer(weights.by_feature, np.float32).reshape(-1, tiers)
        self._by_centre = np.frombuffer(weights.by_centre, np.float32).reshape(-1, tiers)
        self._centres = np.frombuffer(weights.centres, np.float16).reshape(len(self._by_centre), -1).astype(np.float32)
        self._lengths = (self._centres**2).sum(axis=1)
        self._feature_scale = np.array(weights.feature_scale, np.float32)
        self._by_gram = np.frombuffer(weights.by_gram, np.float32).reshape(-1, tiers)
        self._rarity = np.frombuffer(weights.rarity, np.float32)
        self.dimensions = len(self._by_vector)
        self._bias = np.array(weights.bias, np.float32)
        self._slope = np.array(weights.slope, np.float32)
        self._intercept = np.array(weights.intercept, np.float32)
        self._least = np.array(weights.least, np.float32) - _ROUNDING
        self._most = np.array(weights.most, np.float32) + _ROUNDING

    def chances(self, texts: Sequence[str], features: Floats, vectors: Floats) -> tuple[Floats, Flags]:
        """Of each question, one a row, each tier's chance of a good answer, and whether it is like labelled ones.

        Args:
            features: in the order of ``FEATURES``.
            vectors: unit vectors.
        """
        distances = self._distances(features, vectors)
        sums = self._bias + vectors @ self._by_vector + features @ self._by_feature
        sums += np.exp(-self.weights.width * distances) @ self._by_centre
        sums += self._wording(texts)
        near = distances.min(axis=1) <= self.weights.familiar_within
        within = ((features >= self._least) & (features <= self._most)).all(axis=1)
        logits = np.clip(self._slope * sums + self._intercept, -_SUREST, _SUREST)
        return 1 / (1 + np.exp(-logits)), near & within

    def of(self, text: str, features: Mapping[str, float], vector: Floats) -> dict[str, float] | None:
        """The chances of one question by tier; None where it is unlike all that were labelled."""
        chances, familiar = self.chances([text], _row(features), vector[None])
        if not familiar[0]:
            return None
        return dict(zip(self.weights.tiers, chances[0].tolist(), strict=True))

    def contributions(self, text: str, features: Mapping[str, float], vector: Floats) -> list[Contribution]:
        """What makes up the chances of one question: its meaning, its wording, each feature, and what all share."""
        nearness = np.exp(-self.weights.width * self._distances(_row(features), vector[None])[0])
        parts = {
            "meaning": vector @ self._by_vector + nearness @ self._by_centre,
            "wording": self._wording([text])[0],
            **{name: features[name] * self._by_feature[place] for place, name in enumerate(FEATURES)},
        }
        logits = {name: self._slope * part for name, part in parts.items()}
        logits["all questions"] = self._slope * self._bias + self._intercept
        return [
            Contribution(name, dict(zip(self.weights.tiers, logit.tolist(), strict=True)))
            for name, logit in logits.items()
        ]

    def distance(self, features: Mapping[str, float], vector: Floats) -> float:
        """Squared, to the nearest centre of what was labelled."""
        return float(self._distances(_row(features), vector[None]).min())

    def _distances(self, features: Floats, vectors: Floats) -> Floats:
        places = np.hstack([vectors, features * self._feature_scale])
        return (places**2).sum(axis=1)[:, None] - 2 * (places @ self._centres.T) + self._lengths

    def _wording(self, texts: Sequence[str]) -> Floats:
        rows, places, values = weighted(texts, self._rarity)
        return np.stack(
            [np.bincount(rows, values * column[places], len(texts)) for column in self._by_gram.T], axis=1
        ).astype(np.float32)


def _row(features: Mapping[str, float]) -> Floats:
    return np.array([[features[name] for name in FEATURES]], np.float32)
