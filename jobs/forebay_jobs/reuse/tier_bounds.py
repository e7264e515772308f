"""Which tiers' answers a request takes."""

from forebay_schemas.config import Config

from forebay_jobs.caches.answers import Answer
from forebay_jobs.messages import Asker


def tier_allowed(answer: Answer, asker: Asker, config: Config) -> bool:
    """Whether the answer comes from a tier within the asker's bounds; an unknown tier is not."""
    return within_bounds(answer.tier, asker.min_tier, asker.max_tier, config)


def within_bounds(tier: str, min_tier: str | None, max_tier: str | None, config: Config) -> bool:
    """Whether a tier lies between two others, inclusive; an absent bound holds for every known tier."""
    names = list(config.tiers)
    if tier not in names:
        return False
    above = min_tier is None or names.index(tier) >= names.index(min_tier)
    return above and (max_tier is None or names.index(tier) <= names.index(max_tier))
