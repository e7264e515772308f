"""What goes on, for the page: the replies of the last minutes, read from their topic while somebody looks."""

import asyncio
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from forebay_client import AsyncClient, Reply
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import REUSED

_WINDOW_S = 300.0
_MOST = 5_000
"""Replies that are kept, without their texts; of a busier installation the page shows a shorter while."""
_LOOKED_S = 30.0
"""How long after the last look the topic is read on: reading it costs what is replied."""
_LATEST = 30
_FRESH_S = 1.0
"""Figures hold for so long: however often a caller looks, they are added up no more often."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    at_s: float
    reply: Reply


class Live:
    """Watches the reply topic. Times are seconds of the monotonic clock."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._seen: deque[_Seen] = deque(maxlen=_MOST)
        self._watching: asyncio.Task[None] | None = None
        self._since_s = self._looked_s = 0.0
        self._added_up: dict[str | None, tuple[float, dict[str, Any]]] = {}
        """When, and to what, by tenant."""

    def look(self, tenant: str | None) -> dict[str, Any]:
        """The figures of one tenant, or of all, since somebody first looked, for ``_WINDOW_S`` at most."""
        self._looked_s = now_s = time.monotonic()
        self._added_up = {who: told for who, told in self._added_up.items() if now_s < told[0] + _FRESH_S}
        if tenant not in self._added_up:
            self._added_up[tenant] = now_s, self._look(tenant, now_s)
        return self._added_up[tenant][1]

    def _look(self, tenant: str | None, now_s: float) -> dict[str, Any]:
        if self._watching is None or self._watching.done():
            self._seen.clear()
            self._since_s = now_s
            self._watching = asyncio.create_task(self._watch())
        while self._seen and self._seen[0].at_s < now_s - _WINDOW_S:
            self._seen.popleft()
        full = len(self._seen) == _MOST
        since_s = max(self._seen[0].at_s if full else self._since_s, now_s - _WINDOW_S)
        replies = [seen.reply for seen in self._seen if tenant in (None, seen.reply.tenant)]
        return {"window_s": now_s - since_s, **figures(replies)}

    async def close(self) -> None:
        """Look no longer."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        try:
            async with aclosing(self._client.watch()) as replies:
                async for reply in replies:
                    now_s = time.monotonic()
                    if now_s > self._looked_s + _LOOKED_S:
                        return
                    self._seen.append(_Seen(now_s, msgspec.structs.replace(reply, text="", tool_calls=None)))
        except ForebayError as error:
            _log.warning("the page shows nothing new: %s", error)


def figures(replies: Sequence[Reply]) -> dict[str, Any]:
    """What some replies, oldest first, add up to: dollars, milliseconds, counts."""
    answers = [reply for reply in replies if reply.error is None]
    times_ms = sorted(reply.latency.total_ms for reply in answers)
    return {
        "replies": len(replies),
        "errors": len(replies) - len(answers),
        "answers": len(answers),
        "given_again": sum(reply.cache_status in REUSED for reply in answers),
        "cost": sum(reply.cost for reply in replies),
        "baseline_cost": sum(reply.baseline_cost for reply in replies),
        "p50_ms": _percentile(times_ms, 50),
        "p95_ms": _percentile(times_ms, 95),
        "by_status": dict(Counter(map(_status, replies)).most_common()),
        "by_tier": dict(Counter(reply.tier for reply in answers if reply.hops and reply.tier).most_common()),
        "latest": [_row(reply) for reply in reversed(replies[-_LATEST:])],
    }


def _status(reply: Reply) -> str:
    return "error" if reply.error else reply.cache_status.value


def _row(reply: Reply) -> dict[str, Any]:
    return {
        "request_id": reply.request_id,
        "tenant": reply.tenant,
        "category": reply.category,
        "status": _status(reply),
        "error": reply.error.code if reply.error else None,
        "tier": reply.tier,
        "total_ms": reply.latency.total_ms,
        "cost": reply.cost,
    }


def _percentile(sorted_values: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile."""
    if not sorted_values:
        return None
    return sorted_values[max(0, math.ceil(len(sorted_values) * percent / 100) - 1)]
