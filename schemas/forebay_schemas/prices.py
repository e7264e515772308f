"""What an answer costs, and what the largest tier would have cost for the same tokens."""

from .config import Config
from .records import Lane, Usage
from .tiers import Price


def cost(usage: Usage, price: Price, lane: Lane) -> float:
    """US dollars for one generation."""
    cached = price.input_per_1k if price.cached_input_per_1k is None else price.cached_input_per_1k
    written = price.input_per_1k if price.cache_write_per_1k is None else price.cache_write_per_1k
    fresh_tokens = usage.prompt_tokens - usage.cached_prompt_tokens - usage.cache_write_prompt_tokens
    full = (
        fresh_tokens * price.input_per_1k
        + usage.cached_prompt_tokens * cached
        + usage.cache_write_prompt_tokens * written
        + usage.completion_tokens * price.output_per_1k
    ) / 1000
    return full * (price.batch_factor if lane is Lane.BATCH else 1.0)


def baseline_cost(usage: Usage, config: Config) -> float:
    """US dollars that the largest tier would have cost, interactive and without a prefix cache."""
    uncached = Usage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
    return cost(uncached, config.price(config.largest_tier), Lane.INTERACTIVE)
