"""Whether requests are traced, and what spans say of a reply: all of tracing that is there while it is off."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

from .config import Config
from .errors import ConfigError
from .records import Reply
from .sections import TracingConfig

if TYPE_CHECKING:
    from .spans import Tracing

Part = Literal["client", "job", "worker"]

Attributes = Mapping[str, str | int | float | bool | Sequence[str] | None]
"""What a span says, by names of OpenTelemetry's GenAI conventions or of our own; None is left out."""


def tracing_for(config: Config, part: Part) -> "Tracing | None":
    """What records the spans of a part, one in each process; None where ``tracing.endpoint`` is not set.

    Raises:
        ConfigError: it is set, but OpenTelemetry is not installed.
    """
    if config.tracing.endpoint is None:
        return None
    return _tracing(config.tracing, part)  # pyright: ignore[reportArgumentType]: hashable, because it is frozen


@cache
def _tracing(settings: TracingConfig, part: Part) -> "Tracing":
    try:
        from .spans import Tracing  # imported here: whoever does not trace need not have OpenTelemetry
    except ImportError as error:
        raise ConfigError(
            f"tracing.endpoint: is set, but the package {error.name} is missing;"
            " install forebay[tracing], or leave the setting out"
        ) from None
    return Tracing(settings, part)


def reply_attributes(reply: Reply) -> Attributes:
    """What a span says of a request that was answered. Never a text, and not who the user is."""
    return {
        "forebay.request_id": reply.request_id,
        "forebay.tenant": reply.tenant,
        "forebay.endpoint": reply.endpoint,
        "forebay.category": reply.category,
        "forebay.lane": reply.lane,
        "forebay.cache_status": reply.cache_status,
        "forebay.similarity": reply.similarity,
        "forebay.tier": reply.tier,
        "forebay.hops": reply.hops,
        "forebay.cost": reply.cost,
        "gen_ai.response.model": reply.model_id,
    }
