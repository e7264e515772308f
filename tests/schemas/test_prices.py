"""Costs follow from tokens, the model's list price and the lane."""

import pytest
from forebay_schemas.config import load_config
from forebay_schemas.prices import baseline_cost, cost
from forebay_schemas.records import Lane, Usage
from forebay_schemas.tiers import Price

PRICE = Price(input_per_1k=1.0, cached_input_per_1k=0.25, output_per_1k=2.0, batch_factor=0.5)


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(), 0),
        (Usage(prompt_tokens=1000), 1.0),
        (Usage(completion_tokens=1000), 2.0),
        (Usage(prompt_tokens=1000, cached_prompt_tokens=400), 0.6 + 0.1),
        (Usage(prompt_tokens=1000, cached_prompt_tokens=1000, completion_tokens=500), 0.25 + 1.0),
    ],
)
def test_tokens_are_charged_by_kind_and_half_in_the_batch_lane(usage: Usage, dollars: float) -> None:
    assert cost(usage, PRICE, Lane.INTERACTIVE) == pytest.approx(dollars)
    assert cost(usage, PRICE, Lane.BATCH) == pytest.approx(dollars / 2)


def test_without_a_price_for_cached_tokens_they_cost_as_others() -> None:
    price = Price(input_per_1k=1.0, output_per_1k=2.0)

    assert cost(Usage(prompt_tokens=1000, cached_prompt_tokens=400), price, Lane.INTERACTIVE) == pytest.approx(1.0)


def test_a_cached_token_may_be_free() -> None:
    price = Price(input_per_1k=1.0, cached_input_per_1k=0.0, output_per_1k=2.0)

    assert cost(Usage(prompt_tokens=1000, cached_prompt_tokens=1000), price, Lane.INTERACTIVE) == 0


def test_the_baseline_is_the_largest_tier_without_lane_and_prefix_cache() -> None:
    config = load_config()
    large = config.price("large")
    usage = Usage(prompt_tokens=2000, cached_prompt_tokens=1500, completion_tokens=500)

    assert baseline_cost(usage, config) == pytest.approx(2 * large.input_per_1k + 0.5 * large.output_per_1k)
