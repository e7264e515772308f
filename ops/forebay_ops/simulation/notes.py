"""What a simulation takes for granted, and what its source cannot tell of the settings that were asked about."""

from collections.abc import Callable, Iterator, Sequence

from forebay_schemas.categories import CategoryConfig
from forebay_schemas.config import Config

_Category = Callable[[CategoryConfig, CategoryConfig], bool]

_UNTOLD: Sequence[tuple[str, _Category]] = (
    (
        "a threshold below the one that held, or in place of a policy that learns: a miss counts as a hit where the"
        " nearest question that was recorded is near enough; whose answer that was, and whether it could be given,"
        " the ledger does not tell",
        lambda now, then: then.policy == "fixed" and (now.policy != "fixed" or then.similarity < now.similarity),
    ),
    (
        "another policy that learns, or another delta: what it would have decided the ledger does not tell, so hits"
        " stay as they were",
        lambda now, then: (
            then.policy != "fixed" and (then.policy, then.delta, then.adaptive) != (now.policy, now.delta, now.adaptive)
        ),
    ),
    (
        "another freshness objective: who would have had which answer generated anew the ledger does not tell, so hits"
        " stay as they were",
        lambda now, then: then.fresh_s != now.fresh_s,
    ),
    (
        "longer times to live: which of the answers that were generated anew equal an older one the ledger does not"
        " tell, so their hits are too few",
        lambda now, then: then.exact_ttl_s > now.exact_ttl_s or then.semantic_ttl_s > now.semantic_ttl_s,
    ),
    (
        "more reuse than was allowed: which requests were equal or similar, where nobody looked, the ledger does not"
        " tell, so no hits are added",
        lambda now, then: (
            _ALLOWED.index(then.reuse) > _ALLOWED.index(now.reuse) or then.max_temperature > now.max_temperature
        ),
    ),
    (
        "less reuse by temperature: the ledger does not tell the temperature of a request, so no hits are taken away",
        lambda now, then: then.max_temperature < now.max_temperature,
    ),
)
_ALLOWED = ("bypass", "exact", "semantic")


def of_ledger(config: Config, other: Config, categories: Sequence[str]) -> Iterator[str]:
    """What is assumed of a ledger, and what it cannot tell."""
    yield (
        "who asked the same is known by the answers given again; a reworded question counts as hard, and its answer as"
        " long, as the one that it was given the answer of"
    )
    for text, concerned in _UNTOLD:
        names = [name for name in categories if concerned(config.category(name), other.category(name))]
        if names:
            yield f"{text} ({', '.join(names)})"
    if any(
        other.tiers[tier].max_tokens > config.tiers[tier].max_tokens for tier in config.tiers if tier in other.tiers
    ):
        yield "longer answers: how long those would be that were cut off the ledger does not tell"


def of_trace(service_ms: float, answer_tokens: int, unknown: int, like: str | None) -> Iterator[str]:
    """What is assumed of a trace.

    Args:
        unknown: requests whose answer's tokens the trace does not tell.
        like: the ledger as whose generations theirs go; None: they take ``service_ms``, and none leads to another.
    """
    if like:
        yield f"generations take as long, and lead to larger tiers as often, as those in {like}"
    else:
        yield f"a generation takes {service_ms:,.0f} ms, and none leads to a larger tier"
    yield (
        "policies that learn begin with what is shipped, and labels are their judge: what has none teaches nothing;"
        " nobody complains"
    )
    if unknown:
        yield f"{unknown:,} answers whose tokens the trace does not tell have {answer_tokens:,}"
