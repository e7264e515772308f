"""Which tiers' answers a request takes."""

import pytest
from forebay_jobs.reuse.tier_bounds import within_bounds
from forebay_schemas.config import load_config

CONFIG = load_config()


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
