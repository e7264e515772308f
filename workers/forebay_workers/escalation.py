"""Whether an answer is good enough to go out, and which tier is asked where it is not. Pure."""

from collections.abc import Sequence

from forebay_schemas.categories import EscalationConfig
from forebay_schemas.config import Config
from forebay_schemas.records import Hop, Request

from .backends import Generation
from .json_answers import is_valid
from .refusal import is_refusal

INVALID_JSON = "invalid_json"
UNAVAILABLE = "unavailable"


def reason_to_go_on(generation: Generation, request: Request, category: EscalationConfig) -> str | None:
    """Why an answer should not go out, as in ``Hop.reason``; None where it may.

    One that ends at the request's own ``max_tokens`` is as long as its asker wants it: that it is cut off is no
    reason, and neither is that its JSON is incomplete.
    """
    cut_off = generation.finish_reason == "length"
    limit = request.max_tokens
    as_asked = cut_off and limit is not None and generation.usage.completion_tokens >= limit
    called = generation.tool_calls is not None  # what it says besides is no answer yet
    if not as_asked and not called and not is_valid(generation.text, request.response_format):
        return INVALID_JSON
    if category.on_refusal and not called and is_refusal(generation.text):
        return "refusal"
    if category.on_cut_off and cut_off and not as_asked:
        return "cut_off"
    if generation.confidence is not None and generation.confidence < category.min_confidence:
        return "confidence"
    return None


def generations(path: Sequence[Hop]) -> int:
    """How many of the hops are generations; a tier that was unavailable made none."""
    return sum(hop.reason != UNAVAILABLE for hop in path)


def escalations(path: Sequence[Hop]) -> int:
    """How many tiers' answers did not go out, however often each was asked."""
    return len({hop.tier for hop in path if hop.reason != UNAVAILABLE})


def tier_above(tier: str, request: Request, path: Sequence[Hop], config: Config) -> str | None:
    """The next tier up that the request allows and that was not unavailable to it; None where there is none."""
    _, above = _sides(tier, config)
    return next((name for name in above if _may_be_asked(name, request, path, config)), None)


def neighbour(tier: str, request: Request, path: Sequence[Hop], config: Config) -> str | None:
    """Like ``tier_above``, or else the next tier down: it stands in for one that cannot answer."""
    below, above = _sides(tier, config)
    return next((name for name in (*above, *below) if _may_be_asked(name, request, path, config)), None)


def _sides(tier: str, config: Config) -> tuple[list[str], list[str]]:
    """The tiers below and those above, the nearest first."""
    names = list(config.tiers)
    place = names.index(tier)
    return names[:place][::-1], names[place + 1 :]


def _may_be_asked(tier: str, request: Request, path: Sequence[Hop], config: Config) -> bool:
    names = list(config.tiers)
    # The tiers may have changed since the job checked these bounds.
    least = names.index(request.min_tier) if request.min_tier in names else 0
    most = names.index(request.max_tier) if request.max_tier in names else len(names)
    unavailable = any(hop.tier == tier and hop.reason == UNAVAILABLE for hop in path)
    return least <= names.index(tier) <= most and _served(tier, config) and not unavailable


def _served(tier: str, config: Config) -> bool:
    return config.models[config.tiers[tier].model].backend is not None
