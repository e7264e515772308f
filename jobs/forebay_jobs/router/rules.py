"""Features to complexity and confidence by fixed weights, and from there to a tier."""

import msgspec
from forebay_schemas.canonical import category_of
from forebay_schemas.config import Config
from forebay_schemas.records import Request, Route

from .features import features_of

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
_SURE_DISTANCE = 0.2
"""Distance to the next tier's threshold at which the rules are sure."""
_UNRECOGNISED = 0.8
"""Factor on the confidence where the kind of question is unknown."""


def route(request: Request, config: Config) -> Route:
    """Choose a tier for a request by what is asked."""
    features = features_of(request)
    complexity = min(1.0, _BASE + sum(weight * features[name] for name, weight in _WEIGHTS.items()))
    recognised = bool(features["recognised"])
    chosen = choose(complexity, recognised, category_of(request), request.min_tier, request.max_tier, config)
    return msgspec.structs.replace(chosen, features=features)


def choose(
    complexity: float, recognised: bool, category: str, min_tier: str | None, max_tier: str | None, config: Config
) -> Route:
    """Choose a tier for a complexity.

    The category's own tier comes first, else the complexity's, one up where the confidence is below
    ``router.min_confidence``. The request's bounds hold in every case.
    """
    tiers = list(config.tiers)
    position = next(
        index
        for index, tier in enumerate(tiers)
        if complexity < config.tiers[tier].complexity_up_to or tier == tiers[-1]
    )
    confidence = _confidence(complexity, recognised, config.tiers[tiers[position]].complexity_up_to)
    reason = "complexity"
    fixed = config.category(category).tier
    if fixed is not None:
        position, reason = tiers.index(fixed), "category"
    elif confidence < config.router.min_confidence and position < len(tiers) - 1:
        position, reason = position + 1, "low_confidence"
    # A request restored from a checkpoint may name a tier that the configuration has lost since.
    if min_tier in tiers and position < tiers.index(min_tier):
        position, reason = tiers.index(min_tier), "min_tier"
    if max_tier in tiers and position > tiers.index(max_tier):
        position, reason = tiers.index(max_tier), "max_tier"
    return Route(tier=tiers[position], complexity=complexity, confidence=confidence, reason=reason)


def _confidence(complexity: float, recognised: bool, upper: float) -> float:
    """How sure it is that no higher tier is needed: from one half at the threshold to one well below it."""
    if upper >= 1.0:
        return 1.0
    sure = 0.5 + 0.5 * min(1.0, (upper - complexity) / _SURE_DISTANCE)
    return sure if recognised else sure * _UNRECOGNISED
