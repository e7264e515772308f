"""From a complexity to a tier: what is fixed comes first, then thresholds and confidence; bounds always hold."""

from forebay_schemas.config import Config
from forebay_schemas.records import Route

_SURE_DISTANCE = 0.2
"""Distance to the next tier's threshold at which a tier is sure to do."""
_UNRECOGNISED = 0.8
"""Factor on the confidence where the kind of question is unknown."""


def choose(
    complexity: float,
    recognised: bool,
    category: str,
    min_tier: str | None,
    max_tier: str | None,
    config: Config,
    task_tier: str | None = None,
) -> Route:
    """Choose a tier for a complexity.

    The tier of the request's task comes first, then the category's own, else the complexity's, one up where the
    confidence is below ``router.min_confidence``. The request's bounds hold in every case.
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
    if task_tier is not None:
        position, reason = tiers.index(task_tier), "task"
    elif fixed is not None:
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
