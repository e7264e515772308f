"""The file of a learned scorer: what it says of itself, its numbers, and whether it fits this release."""

import hashlib
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import msgspec
import numpy as np
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.sections import WEIGHTS_NONE, WEIGHTS_SHIPPED, EmbeddingConfig

from forebay_jobs.embedding import version_of

from .features import FEATURES, VERSION
from .grams import PLACES

FORMAT = 1
"""Rises when the file changes."""


class UnfitWeights(ForebayError):
    """Weights that cannot be used here; the message tells the field and the mend."""


class Weights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Two regressions in one sum for each tier, of the meaning and of the wording, then calibrated.

    Of a tier: features, vector, exp(-``width`` squared distance) for each centre, and runs of bytes, each with its
    weights, plus a bias. The chance of a good answer is the logistic function of ``slope`` times that sum plus
    ``intercept``.

    Attributes:
        models: names of the embedding model whose vectors it reads.
        features: names of those it reads, in order.
        tiers: whose answers it knows, from the smallest to the largest.
        feature_scale: by which features are multiplied where distances are measured, beside the vector.
        centres: float16, one a row: vector and scaled features; middles of labelled questions, no question's own.
        by_centre, by_vector, by_feature, by_gram: float32, a column for each tier.
        rarity: float32, of each place of ``grams``, as ``grams.weighted`` takes it.
        familiar_within: squared distance to the nearest centre within which a question is like labelled ones: 95 % of
            them were, to centres that were made without them.
        least, most: of each feature where they were labelled.
        labels: how many questions were.
        data: SHA-256 of their prompts and labels.
        error: expected calibration error of each tier's chances, on questions that the sums left out; slope and
            intercept, two numbers a tier, were fitted to the same ones.
        source: the command that made it.
    """

    format: int
    models: list[str]
    feature_version: int
    features: list[str]
    tiers: list[str]
    width: float
    feature_scale: list[float]
    centres: bytes
    by_centre: bytes
    by_vector: bytes
    by_feature: bytes
    by_gram: bytes
    rarity: bytes
    bias: list[float]
    slope: list[float]
    intercept: list[float]
    familiar_within: float
    least: list[float]
    most: list[float]
    labels: int
    data: str
    error: list[float]
    source: str

    @cached_property
    def version(self) -> str:
        """Names these weights: equal ones have the same."""
        return hashlib.sha256(encoded(self)).hexdigest()[:12]


def encoded(weights: Weights) -> bytes:
    """The bytes of the file."""
    return msgspec.msgpack.encode(weights)


def read_weights(data: bytes) -> Weights:
    """Weights from the bytes of their file.

    Raises:
        UnfitWeights: they are none, or of a release with other features.
    """
    try:
        weights = msgspec.msgpack.decode(data, type=Weights)
    except msgspec.MsgspecError as error:
        raise UnfitWeights(f"cannot be read ({error}); {_MEND}") from None
    if weights.format != FORMAT:
        raise UnfitWeights(f"format: is {weights.format}, and this release reads {FORMAT}; {_MEND}")
    if weights.feature_version != VERSION or tuple(weights.features) != FEATURES:
        raise UnfitWeights(
            f"feature_version: is {weights.feature_version}, and the features of this release are {VERSION}; {_MEND}"
        )
    _check_numbers(weights)
    return weights


def weights_of(config: Config) -> Weights | None:
    """Those that a configuration names; None where it names none.

    Raises:
        UnfitWeights: they cannot be read, or do not fit the embedding model or the tiers of the configuration.
    """
    named = config.router.weights
    if named == WEIGHTS_NONE:
        return None
    try:
        shipped = files("forebay_jobs.router").joinpath("weights.msgpack")
        data = shipped.read_bytes() if named == WEIGHTS_SHIPPED else Path(named).read_bytes()
    except OSError as error:
        raise UnfitWeights(f"router.weights: {named} cannot be read ({error.strerror}); {_MEND}") from None
    try:
        weights = read_weights(data)
        _check_fit(weights, config)
    except UnfitWeights as error:
        raise UnfitWeights(f"router.weights: {named}: {error}") from None
    return weights


_MEND = "train them with `forebay router train`"


def _check_fit(weights: Weights, config: Config) -> None:
    model = config.embedding.model
    if version_of(config.embedding) not in [version_of(EmbeddingConfig(model=name)) for name in weights.models]:
        raise UnfitWeights(f"models: learned on {' or '.join(weights.models)}, and embedding.model is {model}; {_MEND}")
    ends = (next(iter(config.tiers)), config.largest_tier)
    unknown = [tier for tier in ends if tier not in weights.tiers]
    if unknown:
        raise UnfitWeights(
            f"tiers: knows answers of {', '.join(weights.tiers)}, and none of {', '.join(unknown)}, an end of the"
            f" ladder; {_MEND} on labels of it"
        )


def _check_numbers(weights: Weights) -> None:
    tiers, dimensions = len(weights.tiers), len(weights.by_vector) // 4 // max(1, len(weights.tiers))
    places = dimensions + len(FEATURES)
    centres = len(weights.centres) // 2 // places
    expected = {
        "by_vector": (weights.by_vector, np.float32, dimensions * tiers),
        "by_feature": (weights.by_feature, np.float32, len(FEATURES) * tiers),
        "by_gram": (weights.by_gram, np.float32, PLACES * tiers),
        "rarity": (weights.rarity, np.float32, PLACES),
        "centres": (weights.centres, np.float16, centres * places),
        "by_centre": (weights.by_centre, np.float32, centres * tiers),
    }
    for name, (data, kind, count) in expected.items():
        if not count or len(data) != count * np.dtype(kind).itemsize:
            raise UnfitWeights(f"{name}: has the wrong length; {_MEND}")
        if not np.isfinite(np.frombuffer(data, kind)).all():
            raise UnfitWeights(f"{name}: holds what is no number; {_MEND}")
    for name, number, least in (("width", weights.width, 1e-6), ("familiar_within", weights.familiar_within, 0.0)):
        if not least <= number < np.inf:
            raise UnfitWeights(f"{name}: is {number:g}, and a number of at least {least:g} is needed; {_MEND}")
    for name, column, count in (
        ("bias", weights.bias, tiers),
        ("slope", weights.slope, tiers),
        ("intercept", weights.intercept, tiers),
        ("feature_scale", weights.feature_scale, len(FEATURES)),
        ("least", weights.least, len(FEATURES)),
        ("most", weights.most, len(FEATURES)),
    ):
        if len(column) != count or not np.isfinite(column).all():
            raise UnfitWeights(f"{name}: needs {count} numbers; {_MEND}")
