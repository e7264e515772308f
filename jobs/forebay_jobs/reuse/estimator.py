"""How likely a neighbour's answer is wrong: Bayesian logistic regression, learned label by label.

The posterior is a Gaussian in information form: precision, and precision times mean, are the prior's plus a sum over
labels. Each label adds the quadratic that the likelihood looks like at the mean of that time (assumed density
filtering as in Spiegelhalter & Lauritzen, 1990). Sums can fade, and those of several processes add up.
"""

import logging
import math
from functools import cache
from importlib.resources import files

import msgspec
import numpy as np
import numpy.typing as npt
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError

from .learned import DIMENSIONS, INFORMATION, MODEL, PULL, Learned
from .neighbourhood import FEATURES

Vector = npt.NDArray[np.float64]

HALF_LIFE_LABELS = 2_000
"""After as many labels a label counts half. 4,000 was no better while nothing changed."""
_REFRESH_LABELS = 8
"""An inversion costs about as much as a decision; the mean moves little in 8 labels."""
_STRICTER_LOGITS = 3.0
"""The odds of being wrong are twenty times as high: little is reused before there are labels."""
_STRICTER_WORTH = 4.0
"""A prior that may be of no use is to be outweighed by a fourth of the labels."""
_LEAST = 1e-4
"""No answer is surer than this: one entry in some thousands is mislabelled."""
_PROBIT = math.pi / 8  # MacKay (1992): the mean of a logistic function over a Gaussian

logger = logging.getLogger(__name__)


class Prior(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is believed about the weights before the first label of a namespace."""

    models: list[str]
    """Names of the embedding model whose cosines it knows; those of another one mean something else."""
    features: list[str]
    mean: list[float]
    precision: list[list[float]]
    """Inverse covariance."""
    source: str
    """The command that made it."""


@cache
def shipped_prior() -> Prior:
    """The one that comes with this package, fitted by `forebay eval prior`."""
    return read_prior(files("forebay_jobs.reuse").joinpath("prior.json").read_bytes())


def prior_for(config: Config) -> Prior:
    """The prior that is configured, else the shipped one; a stricter one where it is for another embedding model.

    Raises:
        ConfigError: the file that ``semantic.prior`` names is absent, or holds no prior.
    """
    file = config.semantic.prior
    try:
        prior = shipped_prior() if file is None else read_prior(file.read_bytes())
    except (OSError, ValueError) as error:
        mend = "write one with `forebay eval prior`, or leave the setting out"
        raise ConfigError(f"semantic.prior: {file} is no prior ({error}); {mend}") from None
    if config.embedding.model in prior.models:
        return prior
    logger.warning(
        "the prior of reuse is for %s, not %s: reuse begins strictly, until labels say more; fit one with `forebay eval"
        " prior` and name it as semantic.prior",
        " or ".join(prior.models),
        config.embedding.model,
    )
    return _stricter(prior)


def _stricter(prior: Prior) -> Prior:
    """The same tendencies, less believed in, and every answer more likely wrong."""
    mean = [*prior.mean]
    mean[FEATURES.index("bias")] -= _STRICTER_LOGITS
    precision = (np.array(prior.precision) / _STRICTER_WORTH).tolist()
    return msgspec.structs.replace(prior, mean=mean, precision=precision)


def read_prior(data: bytes) -> Prior:
    """A prior from its JSON.

    Raises:
        ValueError: it is none, or is for other features than this release has.
    """
    prior = msgspec.json.decode(data, type=Prior)
    if tuple(prior.features) != FEATURES:
        raise ValueError("features: are not those of this release; fit it anew with `forebay eval prior`")
    if np.shape(prior.mean) != (DIMENSIONS,) or np.shape(prior.precision) != (DIMENSIONS, DIMENSIONS):
        raise ValueError(f"mean, precision: do not have {DIMENSIONS} places; fit it anew with `forebay eval prior`")
    return prior


class Estimator:
    """Weights with their uncertainty, kept in step with the learned sums."""

    def __init__(self, prior: Prior, learned: Learned) -> None:
        self._precision = np.array(prior.precision)
        self._pull = self._precision @ np.array(prior.mean)
        self._learned = learned
        self._labels = 0
        self.refresh()

    def wrong(self, vector: Vector) -> float:
        """The chance that the answer is wrong, in (0, 1), over all weights that are plausible."""
        logit = float(self._mean @ vector)
        variance = float(vector @ self._covariance @ vector)
        right = _logistic(logit / math.sqrt(1.0 + _PROBIT * variance))
        return min(max(1.0 - right, _LEAST), 1.0 - _LEAST)

    def effects(self, vector: Vector) -> Vector:
        """How much each place of a vector moves the logit of being right, by the weights' means."""
        return self._mean * vector

    def learn(self, vector: Vector, right: bool, weight: float) -> None:
        """Add a label.

        Args:
            weight: how many such labels it stands for; far from the price, where it counts for little, a part of one.
        """
        logit = float(self._mean @ vector)
        expected = _logistic(logit)
        curvature = weight * expected * (1.0 - expected)
        self._learned.add(INFORMATION, curvature * np.outer(vector, vector).ravel())
        self._learned.add(PULL, (curvature * logit + weight * (right - expected)) * vector)
        self._labels += 1
        if self._labels >= _REFRESH_LABELS:
            self.refresh()

    def refresh(self) -> None:
        """Follow the sums, faded by the labels since the last time; to be called when others changed them too."""
        if self._labels:
            self._learned.fade(MODEL, 0.5 ** (self._labels / HALF_LIFE_LABELS))
            self._labels = 0
        precision = self._precision + self._learned[INFORMATION].reshape(DIMENSIONS, DIMENSIONS)
        self._covariance = np.linalg.inv(precision)
        self._mean = self._covariance @ (self._pull + self._learned[PULL])


def _logistic(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit)) if logit > 0 else math.exp(logit) / (1.0 + math.exp(logit))
