"""What keys may use: calls and tokens a minute, dollars a day and a month; counted in Redis for all copies together.

A minute's limit is a bucket that refills evenly and holds one minute's worth. Tokens and dollars are known when the
answer is, so they are taken then: a bucket may go below empty, and whoever calls at the same moment as the one that
passes a limit is answered too.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import redis.asyncio as redis
from forebay_client import Reply
from forebay_schemas.config import Config
from forebay_schemas.metrics import GatewayMetrics
from redis.exceptions import RedisError

from .errors import ApiError
from .keys import Key

_DAYS_KEPT = 3
_MONTHS_KEPT_D = 70
_LEVEL = """
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function level(bucket, per_min)
  local held = redis.call('HMGET', bucket, 'level', 'at_ms')
  if not held[1] then return per_min end
  return math.min(per_min, tonumber(held[1]) + (now_ms - held[2]) * per_min / 60000)
end
local function put(bucket, value, per_min)
  redis.call('HSET', bucket, 'level', tostring(value), 'at_ms', now_ms)
  -- For an hour, and until it is full again: one that is gone counts as full.
  redis.call('PEXPIRE', bucket, math.max(3600000, math.ceil((per_min - value) * 60000 / per_min)))
end
"""
# KEYS: bucket of calls, bucket of tokens, dollars of the day, of the month. ARGV: their limits, '' for none.
# Returns what is used up ('' for nothing), and in how many milliseconds there is some again.
_ADMIT = (
    _LEVEL
    + """
local calls, tokens = tonumber(ARGV[1]), tonumber(ARGV[2])
for place, name in ipairs({'usd_per_day', 'usd_per_month'}) do
  local most = tonumber(ARGV[2 + place])
  if most and tonumber(redis.call('GET', KEYS[2 + place]) or '0') >= most then return {name, 0} end
end
if tokens then
  local left = level(KEYS[2], tokens)
  if left <= 0 then return {'tokens_per_min', math.ceil((1 - left) * 60000 / tokens)} end
end
if calls then
  local left = level(KEYS[1], calls)
  if left < 1 then return {'requests_per_min', math.ceil((1 - left) * 60000 / calls)} end
  put(KEYS[1], left - 1, calls)
end
return {'', 0}
"""
)
# KEYS as above. ARGV: the limit of tokens ('' for none), tokens used, dollars spent, seconds to keep day and month.
_SETTLE = (
    _LEVEL
    + """
local tokens = tonumber(ARGV[1])
if tokens then put(KEYS[2], level(KEYS[2], tokens) - ARGV[2], tokens) end
for place = 3, 4 do
  -- Not INCRBYFLOAT: in a script it breaks the memory of Redis 6.2, which writes it anew with more arguments.
  local spent = tonumber(redis.call('GET', KEYS[place]) or '0') + ARGV[3]
  redis.call('SET', KEYS[place], string.format('%.17g', spent), 'EX', ARGV[1 + place])
end
"""
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spent:
    """US dollars that a key has spent, by UTC."""

    day_usd: float
    month_usd: float


class Limits:
    """The limits of all keys.

    Without Redis nothing can be counted, and a caller could spend without end: keys with limits are refused then,
    unless ``gateway.allow_uncounted``. Keys without limits never ask.
    """

    def __init__(self, config: Config, store: redis.Redis, metrics: GatewayMetrics) -> None:
        self._prefix = f"{config.kafka.topic_prefix}:gateway"
        self._allow_uncounted = config.gateway.allow_uncounted
        self._store, self._metrics = store, metrics
        self._admit = store.register_script(_ADMIT)
        self._settle = store.register_script(_SETTLE)

    async def admit(self, key: Key, now: datetime, *, spends: bool) -> None:
        """Count a call that begins.

        Args:
            spends: whether it may cost tokens and dollars; what does not is counted as a call alone.

        Raises:
            ApiError: a limit is used up, or nothing can be counted.
        """
        if not key.limited:
            return
        of_spending = (key.tokens_per_min, key.usd_per_day, key.usd_per_month) if spends else (None, None, None)
        limits = (key.requests_per_min, *of_spending)
        try:
            told: Any = await self._admit(self._names(key, now), ["" if limit is None else limit for limit in limits])
        except (RedisError, OSError) as error:
            self._metrics.uncounted.labels("admit").inc()
            if self._allow_uncounted:
                return
            self._metrics.refused.labels("uncounted").inc()
            raise ApiError(
                503,
                f"the limits of this key cannot be checked now ({type(error).__name__}); send the call again soon",
                code="limits_unavailable",
                retry_after_s=1,
            ) from None
        used_up = told[0].decode()
        if used_up:
            raise self._used_up(key, used_up, told[1] / 1000, now)

    async def settle(self, key: Key, reply: Reply, now: datetime) -> None:
        """Charge what a reply has used, an error reply and a cancelled one too."""
        await self._count(key, _tokens(reply), reply.cost, now)

    async def charge(self, key: Key, usd: float, now: datetime) -> None:
        """Charge what rows of a batch have cost; of tokens a minute they use none."""
        await self._count(key, 0, usd, now)

    async def spent(self, key: Key, now: datetime) -> Spent:
        """What it has spent today and this month.

        Raises:
            RedisError, OSError: Redis is away.
        """
        day, month = await self._store.mget(self._names(key, now)[2:])
        return Spent(float(day or 0), float(month or 0))

    async def left_usd(self, key: Key, now: datetime) -> float | None:
        """US dollars that it may spend yet, negative where it spent more; None: no limit holds.

        Raises:
            RedisError, OSError: Redis is away.
        """
        if key.usd_per_day is None and key.usd_per_month is None:
            return None
        spent = await self.spent(key, now)
        limits = ((key.usd_per_day, spent.day_usd), (key.usd_per_month, spent.month_usd))
        return min(limit - used for limit, used in limits if limit is not None)

    async def _count(self, key: Key, tokens: int, usd: float, now: datetime) -> None:
        if not key.limited:
            return
        kept = (_DAYS_KEPT * 86_400, _MONTHS_KEPT_D * 86_400)
        limit = "" if key.tokens_per_min is None else key.tokens_per_min
        try:
            await self._settle(self._names(key, now), [limit, tokens, repr(usd), *kept])
        except (RedisError, OSError) as error:
            self._metrics.uncounted.labels("settle").inc()
            _log.warning("$%.9f of key %s are not counted: %s", usd, key.id, error)

    def _names(self, key: Key, now: datetime) -> Sequence[str]:
        own = f"{self._prefix}:{{{key.id}}}"  # braces: a script's keys lie on one node of a cluster
        return f"{own}:calls", f"{own}:tokens", f"{own}:{now:%Y-%m-%d}", f"{own}:{now:%Y-%m}"

    def _used_up(self, key: Key, what: str, again_s: float, now: datetime) -> ApiError:
        most = getattr(key, what)
        if what in ("requests_per_min", "tokens_per_min"):
            kind = what.removesuffix("_per_min")
            self._metrics.refused.labels(kind).inc()
            return ApiError(
                429,
                f"this key may use {most} {kind} a minute ({what}); send the call again in {again_s:.3g} s",
                code="rate_limit_exceeded",
                kind=kind,
                retry_after_s=again_s,
            )
        self._metrics.refused.labels("spend").inc()
        day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        until = (
            day + timedelta(days=1) if what == "usd_per_day" else (day.replace(day=1) + timedelta(32)).replace(day=1)
        )
        span = what.removeprefix("usd_per_")
        return ApiError(
            429,
            f"this key has spent its ${most:g} of the {span} ({what}); it may call again from {until:%Y-%m-%d} UTC on,"
            " or when an operator raises the limit",
            code="insufficient_quota",
            kind="insufficient_quota",
            retry_after_s=(until - now).total_seconds(),
            retry=False,
        )


def _tokens(reply: Reply) -> int:
    """Of all generations that led to a reply; none where it was given again."""
    if not reply.hops:
        return 0
    return sum(
        used.prompt_tokens + used.completion_tokens for used in (reply.usage, *(hop.usage for hop in reply.path))
    )
