"""Whether a neighbour is near enough, and whether an answer's tier will do."""

import pytest
from forebay_jobs.caches.questions import Neighbour
from forebay_jobs.reuse.policy import near_enough, within_bounds
from forebay_schemas.config import load_config
from forebay_schemas.sections import CategoryConfig

CONFIG = load_config().model_copy(update={"categories": {"strict": CategoryConfig(similarity=0.99)}})


@pytest.mark.parametrize(
    ("similarity", "category", "near"),
    [
        (0.95, "default", True),
        (0.949, "default", False),
        (0.989, "strict", False),
        (1.0001, "strict", True),
        (-1.0, "default", False),
        (float("nan"), "default", False),
    ],
)
def test_a_neighbour_is_near_from_the_categorys_threshold_on(similarity: float, category: str, near: bool) -> None:
    assert near_enough(Neighbour(digest="0" * 32, similarity=similarity), category, CONFIG) is near


@pytest.mark.parametrize(
    ("tier", "min_tier", "max_tier", "within"),
    [
        ("medium", None, None, True),
        ("medium", "medium", "medium", True),
        ("medium", "small", "large", True),
        ("small", "medium", None, False),
        ("large", None, "medium", False),
        ("gone", None, None, False),
    ],
)
def test_bounds_are_inclusive_and_an_unknown_tier_is_within_none(
    tier: str, min_tier: str | None, max_tier: str | None, within: bool
) -> None:
    assert within_bounds(tier, min_tier, max_tier, CONFIG) is within
