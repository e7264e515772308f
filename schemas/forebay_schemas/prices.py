"""What an answer costs, and what the largest tier would have cost for the same tokens."""

from .canonical import all_messages
from .config import Config
from .records import Lane, Request, Usage
from .tiers import ModelConfig, Price


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


def charged_lane(lane: Lane, model: ModelConfig, *, in_batch: bool) -> Lane:
    """The lane whose price is charged for a generation: a provider with batches of its own lets off only what comes in
    one of them."""
    return Lane.INTERACTIVE if model.endpoint.batch_api and not in_batch else lane


def baseline_cost(usage: Usage, config: Config) -> float:
    """US dollars that the largest tier would have cost, interactive and without a prefix cache."""
    uncached = Usage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
    return cost(uncached, config.price(config.largest_tier), Lane.INTERACTIVE)


_TEMPLATE_TOKENS = 16
"""What a chat template adds around a turn."""


def upper_bound(request: Request, config: Config, lane: Lane) -> float:
    """US dollars that a request costs at most, as long as these prices hold and no generation is begun anew.

    Each tier that may be asked answers in turn, by the dearest of its models and as long as it may, and twice where
    the answer has to be JSON. A token is at least one byte of the prompt.
    """
    generations = 2 if request.response_format else 1
    return generations * sum(_dearest(request, name, config, lane) for name in tiers_for(request, config))


def tiers_for(request: Request, config: Config) -> list[str]:
    """The tiers that may answer a request, the smallest first."""
    names = list(config.tiers)
    first = names.index(request.min_tier) if request.min_tier else 0
    last = names.index(request.max_tier) if request.max_tier else len(names) - 1
    return names[first : last + 1]


def _dearest(request: Request, name: str, config: Config, lane: Lane) -> float:
    tier = config.tiers[name]
    turns = all_messages(request)
    texts = [text or "" for turn in turns for text in (turn.content, turn.tool_calls)]
    texts += [request.tools or "", request.response_format or "", *request.passages]
    texts += [tier.system_prompt, tier.length_directive]
    prompt_tokens = sum(len(text.encode()) for text in texts) + _TEMPLATE_TOKENS * (len(turns) + 2)
    longest = tier.max_tokens if request.max_tokens is None else min(tier.max_tokens, request.max_tokens)
    fresh = Usage(prompt_tokens=prompt_tokens, completion_tokens=longest)
    written = Usage(
        prompt_tokens=prompt_tokens, completion_tokens=longest, cache_write_prompt_tokens=prompt_tokens
    )  # providers that charge it charge more for it
    return max(
        cost(usage, config.generation_price(name, model), charged_lane(lane, config.models[model], in_batch=False))
        for model in (tier.model, *tier.standby)
        for usage in (fresh, written)
    )
