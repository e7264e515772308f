"""The columns of a reply in the ledger, and how it fills them."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from forebay_schemas import prices
from forebay_schemas.config import Config
from forebay_schemas.records import Hop, Lane, Reply, Usage
from forebay_schemas.tiers import Price

from .tables import Entry

_TOKENS = ("prompt_tokens", "completion_tokens", "cached_prompt_tokens", "cache_write_prompt_tokens")
_HOP = pa.struct(
    [
        ("tier", pa.string()),
        ("model_id", pa.string()),
        ("reason", pa.string()),
        ("confidence", pa.float64()),
        *((name, pa.int32()) for name in _TOKENS),
        ("cost", pa.float64()),
    ]
)

SCHEMA = pa.schema(
    [
        ("completed_at", pa.timestamp("ms")),  # UTC, without a zone, so that no reader's own zone moves it
        *((name, pa.string()) for name in ("request_id", "tenant", "user", "endpoint", "category", "lane")),
        *((name, pa.string()) for name in ("prompt_version", "arm")),
        ("cache_status", pa.string()),
        ("similarity", pa.float64()),
        ("matched_request_id", pa.string()),
        *((name, pa.string()) for name in ("tier", "model_id", "route_tier", "route_reason")),
        ("complexity", pa.float64()),
        ("route_confidence", pa.float64()),
        ("features", pa.map_(pa.string(), pa.float64())),
        ("confidence", pa.float64()),
        ("hops", pa.int32()),
        ("path", pa.list_(_HOP)),
        ("finish_reason", pa.string()),
        ("error_code", pa.string()),
        ("error_retryable", pa.bool_()),
        ("error_message", pa.string()),
        ("review", pa.bool_()),
        ("synthetic", pa.bool_()),
        *((name, pa.int32()) for name in _TOKENS),
        *((f"{stage}_ms", pa.float64()) for stage in ("queue", "embedding", "lookup", "generation", "total")),
        ("first_token_ms", pa.float64()),
        ("cost", pa.float64()),
        ("baseline_cost", pa.float64()),
        ("saved_by_batch", pa.float64()),
        ("saved_by_prefix_cache", pa.float64()),
        ("escalation_cost", pa.float64()),
        ("repeat", pa.bool_()),
        ("text", pa.string()),
        ("tool_calls", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
    ]
)
"""What each file holds, whatever is configured, so that files of all days can be read together. ``docs/ledger.md``
tells the meaning of each; most have the name and the meaning of their field of ``records.Reply``."""

NO_SHADOW = "route_reason IS DISTINCT FROM 'shadow'"
"""In SQL, that somebody asked for a reply, and not the job itself to audit its routing."""


@dataclass(frozen=True, slots=True)
class Discounts:
    """What a reply's generations would have cost more under plainer prices, in US dollars.

    Attributes:
        batch: more on the interactive lane.
        prefix_cache: still more without a prefix cache. Below zero where writing to one cost more than it spared.
    """

    batch: float = 0.0
    prefix_cache: float = 0.0


class Rows:
    """Turns replies into rows. Discounts are by the prices of ``config``, those that hold when a reply is written."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def row(self, entry: Entry, reply: Reply, repeat: bool) -> dict[str, Any]:
        """All columns of one reply."""
        error, route, latency = reply.error, reply.route, reply.latency
        texts = self._config.ledger.texts
        return {
            "completed_at": reply.completed_ms,
            "request_id": reply.request_id,
            "tenant": reply.tenant,
            "user": reply.user,
            "endpoint": reply.endpoint,
            "category": reply.category,
            "lane": reply.lane.value,
            "prompt_version": reply.prompt_version,
            "arm": reply.arm,
            "cache_status": reply.cache_status.value,
            "similarity": reply.similarity,
            "matched_request_id": reply.matched_request_id,
            "tier": reply.tier or (route.tier if route else None),
            "model_id": reply.model_id,
            "route_tier": route.tier if route else None,
            "route_reason": route.reason if route else None,
            "complexity": route.complexity if route else None,
            "route_confidence": route.confidence if route else None,
            "features": list(route.features.items()) if route else None,
            "confidence": reply.confidence,
            "hops": reply.hops,
            "path": [_hop(hop) for hop in reply.path],
            "finish_reason": reply.finish_reason,
            "error_code": error.code if error else None,
            "error_retryable": error.retryable if error else None,
            "error_message": error.message if error and texts else None,  # libraries quote prompts in theirs
            "review": reply.review,
            "synthetic": reply.synthetic,
            **_tokens(reply.usage),
            "queue_ms": latency.queue_ms,
            "embedding_ms": latency.embedding_ms,
            "lookup_ms": latency.lookup_ms,
            "generation_ms": latency.generation_ms,
            "total_ms": latency.total_ms,
            "first_token_ms": latency.first_token_ms,
            "cost": reply.cost,
            "baseline_cost": reply.baseline_cost,
            **self._savings(reply),
            "repeat": repeat,
            "text": reply.text if texts else None,
            "tool_calls": reply.tool_calls if texts else None,
            "topic": entry.topic,
            "partition": entry.partition,
            "offset": entry.offset,
        }

    def _savings(self, reply: Reply) -> dict[str, float]:
        if not reply.hops:  # nothing was generated for it
            return dict.fromkeys(("saved_by_batch", "saved_by_prefix_cache", "escalation_cost"), 0.0)
        before = [self._discounts(hop.tier, hop.model_id, hop.usage, reply.lane, hop.cost) for hop in reply.path]
        last_cost = reply.cost - sum(hop.cost for hop in reply.path)
        answer = self._discounts(reply.tier, reply.model_id, reply.usage, reply.lane, last_cost)
        more = sum(each.batch + each.prefix_cache for each in before)
        return {
            "saved_by_batch": sum(each.batch for each in (*before, answer)),
            "saved_by_prefix_cache": sum(each.prefix_cache for each in (*before, answer)),
            "escalation_cost": sum(hop.cost for hop in reply.path) + more,
        }

    def _discounts(self, tier: str | None, model_id: str | None, usage: Usage, lane: Lane, charged: float) -> Discounts:
        price = self._price(tier, model_id)
        if price is None or model_id is None:
            return Discounts()
        plain = Usage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
        interactive, batch = (prices.cost(usage, price, one) for one in (Lane.INTERACTIVE, Lane.BATCH))
        # Nearer, and not equal: prices may have changed since.
        in_batch = abs(charged - batch) < abs(charged - interactive)
        lane = prices.charged_lane(lane, self._config.models[model_id], in_batch=in_batch)
        return Discounts(
            batch=interactive - prices.cost(usage, price, lane),
            prefix_cache=prices.cost(plain, price, Lane.INTERACTIVE) - interactive,
        )

    def _price(self, tier: str | None, model_id: str | None) -> Price | None:
        """What the generations of a model in a tier are charged; None where the configuration no longer knows them."""
        if tier in self._config.tiers and model_id in self._config.models:
            return self._config.generation_price(tier, model_id)
        return None


def _hop(hop: Hop) -> dict[str, Any]:
    return {
        "tier": hop.tier,
        "model_id": hop.model_id,
        "reason": hop.reason,
        "confidence": hop.confidence,
        **_tokens(hop.usage),
        "cost": hop.cost,
    }


def _tokens(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in _TOKENS}
