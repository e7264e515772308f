"""Fits a router's weights to labels: two ridge regressions, one of the meaning and one of the wording, and calibration.

The first is on features, on the vector and on a kernel of both that centres stand for (Nyström; Williams & Seeger,
2001), so that the file holds no prompt and a request costs one product with them; the second on hashed runs of bytes.
Their mean is calibrated (Platt, 1999) on prompts left out. Constants were chosen on the development half of RouteLLM's
labels; docs/routing.md tells what else was tried.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from forebay_jobs.router.features import FEATURES, VERSION, features_of
from forebay_jobs.router.grams import PLACES, counts, weighted
from forebay_jobs.router.weights import FORMAT, Weights
from forebay_schemas.records import Message, Request

from .curves import calibration_error
from .labels import FOLDS, Labels

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Said = Callable[[str], None]

_CENTRES = 500
_PROMPTS_A_CENTRE = 4
_WIDTH = 1.0
_FEATURE_SCALE, _VECTOR_SCALE, _CENTRE_SCALE = 0.03, 0.5, 4.0
"""How freely each part of the first regression may be used, as deviations in its ridge penalty."""
_PENALTY = 60.0
_GRAM_PENALTY = 10.0
_FEATURES_IN_KERNEL = 0.1
"""How far apart one standard deviation of a feature puts two prompts, beside unit vectors."""
_LEAST_SPREAD = 1e-3
"""Of a feature that is there in one prompt of a million; less is rounding."""
_LEAST_EIGENVALUE = 1e-6
_UNFAMILIAR = 0.05
"""Share of prompts left out that are taken for unlike the labelled ones. Chosen on the development half: with 0.02 a
few odd ones among some hundred labels of a data set let in many of the other, for next to no gain on their own."""


@dataclass(frozen=True)
class Prepared:
    """Labels with what the scorer reads of their prompts, one a row.

    Attributes:
        features: as a request that asks the prompt alone has them.
        vectors: unit vectors.
    """

    labels: Labels
    features: npt.NDArray[np.float32]
    vectors: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: Ints) -> "Prepared":
        """Some of the rows."""
        labels = self.labels
        some = Labels(
            [labels.prompts[row] for row in rows],
            labels.tiers,
            labels.right[rows],
            labels.weight[rows],
            [labels.datasets[row] for row in rows],
        )
        return Prepared(some, self.features[rows], self.vectors[rows])


def prepared(labels: Labels, vectors: npt.NDArray[np.float32]) -> Prepared:
    """Labels whose prompts have been embedded."""
    features = [[values[name] for name in FEATURES] for values in map(features_alone, labels.prompts)]
    return Prepared(labels, np.array(features, np.float32), vectors)


def features_alone(prompt: str) -> dict[str, float]:
    """Of a request that asks a prompt and has nothing else."""
    request = Request(request_id="label", tenant="label", created_ms=0, messages=[Message(role="user", content=prompt)])
    return features_of(request)


def train(data: Prepared, models: list[str], source: str, said: Said = lambda _: None) -> Weights:
    """Weights from labels; the same from the same.

    Args:
        models: names of the embedding model that made the vectors.
        source: the command, to be kept with them.
    """
    kernel = _Kernel(data)
    fitted = _Fit(data, kernel)
    tiers = len(data.labels.tiers)
    left_out, apart = np.full((len(data), tiers), np.nan), np.zeros(len(data))
    folds = _inner_folds(data.labels)
    for fold in range(FOLDS):
        said(f"calibrating on fold {fold + 1} of {FOLDS}")
        rest, rows = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(rows):
            others, some = data.part(rest), data.part(rows)
            left_out[rows] = _Fit(others, kernel).sums(some)
            apart[rows] = _Kernel(others).distances(some).min(axis=1)  # centres lie nearer to what they are made of
    slope, intercept, error = zip(
        *(
            calibrated(left_out[:, tier], data.labels.right[:, tier], data.labels.weight[:, tier])
            for tier in range(tiers)
        ),
        strict=True,
    )
    return Weights(
        format=FORMAT,
        models=models,
        feature_version=VERSION,
        features=list(FEATURES),
        tiers=data.labels.tiers,
        width=_WIDTH,
        feature_scale=kernel.scale.tolist(),
        centres=kernel.centres.astype(np.float16).tobytes(),
        by_centre=_bytes(fitted.by_centre),
        by_vector=_bytes(fitted.by_vector),
        by_feature=_bytes(fitted.by_feature),
        by_gram=_bytes(fitted.by_gram),
        rarity=_bytes(fitted.rarity),
        bias=fitted.bias.tolist(),
        slope=list(slope),
        intercept=list(intercept),
        familiar_within=float(np.quantile(apart, 1 - _UNFAMILIAR)),
        least=data.features.min(axis=0).tolist(),
        most=data.features.max(axis=0).tolist(),
        labels=len(data),
        data=data.labels.digest,
        error=list(error),
        source=source,
    )


class _Kernel:
    """Centres of the labelled prompts, and how near prompts are to them: exp(-width squared distance)."""

    def __init__(self, data: Prepared) -> None:
        self.scale = _FEATURES_IN_KERNEL / _spread(data)
        self.centres = _centres(self._places(data))
        between = _squared_distances(self.centres, self.centres)
        values, vectors = np.linalg.eigh(np.exp(-_WIDTH * between))
        self.whiten = vectors / np.sqrt(np.maximum(values, _LEAST_EIGENVALUE))

    def distances(self, data: Prepared) -> Floats:
        """Squared, of each prompt to each centre."""
        return _squared_distances(self._places(data), self.centres)

    def nearness(self, data: Prepared) -> Floats:
        """To each centre, in (0, 1]."""
        return np.exp(-_WIDTH * self.distances(data))

    def _places(self, data: Prepared) -> npt.NDArray[Any]:
        return np.hstack([data.vectors, data.features * self.scale])


class _Fit:
    """Both regressions on some labels, as what each input adds to a tier's sum."""

    def __init__(self, data: Prepared, kernel: _Kernel) -> None:
        tiers, centres = len(data.labels.tiers), len(kernel.centres)
        self._kernel = kernel
        self._mean, self._spread = data.features.mean(axis=0), _spread(data)
        self.rarity = rarity_of(data.labels.prompts)
        self.by_feature, self.by_vector = np.zeros((len(FEATURES), tiers)), np.zeros((data.vectors.shape[1], tiers))
        self.by_centre, self.by_gram = np.zeros((centres, tiers)), np.zeros((PLACES, tiers))
        self.bias = np.zeros(tiers)
        meaning, wording = self._meaning(data), wording_of(data.labels.prompts, self.rarity)
        for tier, (right, weight) in enumerate(zip(data.labels.right.T, data.labels.weight.T, strict=True)):
            known = np.flatnonzero(~np.isnan(right))
            some = right[known], _effective(weight[known])
            self._fit_meaning(tier, meaning[known], *some)
            self._fit_wording(tier, wording[known], *some)

    def sums(self, data: Prepared) -> npt.NDArray[Any]:
        """What each tier's sum is, one row a prompt."""
        nearness = self._kernel.nearness(data)
        of_meaning = data.features @ self.by_feature + data.vectors @ self.by_vector + nearness @ self.by_centre
        return self.bias + of_meaning + wording_of(data.labels.prompts, self.rarity) @ self.by_gram

    def _meaning(self, data: Prepared) -> npt.NDArray[Any]:
        features = (data.features - self._mean) / self._spread
        nearness = self._kernel.nearness(data) @ self._kernel.whiten
        return np.hstack([features * _FEATURE_SCALE, data.vectors * _VECTOR_SCALE, nearness * _CENTRE_SCALE])

    def _fit_meaning(self, tier: int, columns: Floats, right: Floats, weight: Floats) -> None:
        middle, usual = np.average(columns, axis=0, weights=weight), np.average(right, weights=weight)
        root = np.sqrt(weight)
        apart = (columns - middle) * root[:, None]
        curvature = apart.T @ apart + _PENALTY * np.eye(len(middle))
        moves = np.linalg.solve(curvature, apart.T @ ((right - usual) * root))
        feature, vector, centre = np.split(moves, np.cumsum([len(self.by_feature), len(self.by_vector)]))
        by_feature = feature * _FEATURE_SCALE / self._spread
        self.by_feature[:, tier] = by_feature / 2
        self.by_vector[:, tier] = vector * _VECTOR_SCALE / 2
        self.by_centre[:, tier] = self._kernel.whiten @ centre * _CENTRE_SCALE / 2
        self.bias[tier] += (usual - middle @ moves - self._mean @ by_feature) / 2

    def _fit_wording(self, tier: int, columns: Any, right: Floats, weight: Floats) -> None:
        from sklearn.linear_model import Ridge  # a second to import

        # Equal weights change nothing but the rounding: without them the shipped weights come out the same to the byte.
        some = weight if np.ptp(weight) else None
        fitted: Any = Ridge(alpha=_GRAM_PENALTY, solver="sparse_cg", tol=1e-4).fit(columns, right, some)
        self.by_gram[:, tier] = fitted.coef_ / 2
        self.bias[tier] += fitted.intercept_ / 2


def _squared_distances(places: Floats, centres: Floats) -> Floats:
    return (places**2).sum(axis=1)[:, None] - 2 * (places @ centres.T) + (centres**2).sum(axis=1)


def _spread(data: Prepared) -> Floats:
    """Standard deviation of each feature; without end for one that never varies, so that it tells nothing."""
    spread = data.features.std(axis=0, dtype=np.float64)
    return np.where(spread > _LEAST_SPREAD, spread, np.inf)


def _centres(places: Floats) -> Floats:
    """Middles of groups of prompts, as exact as the file keeps them."""
    from sklearn.cluster import MiniBatchKMeans

    count = max(1, min(_CENTRES, len(places) // _PROMPTS_A_CENTRE))
    settings: dict[str, Any] = {"batch_size": 1024, "max_iter": 20, "n_init": 1, "random_state": 0}
    found: Any = MiniBatchKMeans(count, **settings).fit(places)
    return found.cluster_centers_.astype(np.float16).astype(np.float64)


def rarity_of(prompts: list[str]) -> npt.NDArray[np.float32]:
    """Smoothed inverse document frequency of each place."""
    having = np.zeros(PLACES)
    for prompt in prompts:
        having += counts(prompt) > 0
    return (np.log((1 + len(prompts)) / (1 + having)) + 1).astype(np.float32)


def wording_of(prompts: list[str], rarity: npt.NDArray[np.float32]) -> Any:
    """Which runs of bytes prompts have, as a sparse matrix with one row a prompt; see ``grams.weighted``."""
    from scipy.sparse import csr_matrix

    rows, places, values = weighted(prompts, rarity)
    return csr_matrix((values, (rows, places)), shape=(len(prompts), PLACES))


def _effective(weight: Floats) -> Floats:
    """Weights in the same proportion, that add up to as many equal ones as tell the same (Kish, 1965): a penalty that
    suits so many labels suits no more where a few of them weigh most."""
    return weight * (weight.sum() / (weight**2).sum())


def calibrated(sums: Floats, right: Floats, weight: Floats) -> tuple[float, float, float]:
    """Slope and intercept of the logistic function from sums to chances, and the error that is left.

    Where all answers are alike, as those of a tier that is taken for right, the same chance for all (Laplace's rule).
    """
    from sklearn.linear_model import LogisticRegression

    known = ~(np.isnan(right) | np.isnan(sums))
    sums, right, weight = sums[known, None], right[known], _effective(weight[known])
    if len(np.unique(right)) < 2:
        good = float(weight @ right)
        return 0.0, float(np.log((good + 1) / (weight.sum() - good + 1))), 0.0
    fitted: Any = LogisticRegression(C=1e6).fit(sums, right, weight)
    chances = fitted.predict_proba(sums)[:, 1]
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0]), calibration_error(chances, right, weight)


def _inner_folds(labels: Labels) -> Ints:
    """Folds for calibration, that have nothing to do with those of an evaluation."""
    return np.array([hashlib.sha256(prompt.encode()).digest()[3] % FOLDS for prompt in labels.prompts])


def _bytes(numbers: npt.NDArray[Any]) -> bytes:
    return numbers.astype(np.float32).tobytes()
