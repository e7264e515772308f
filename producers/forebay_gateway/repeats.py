"""Calls that are sent again under the same Idempotency-Key: the first one's answer serves all of them.

The answer is kept in Redis, so that the repeat may come to another copy of the gateway. While the first is still being
answered the repeat waits for it. With Redis away a repeat is a call like any other, which at best joins an equal one in
flight.
"""

import asyncio
import hashlib
import logging

import msgspec
import redis.asyncio as redis
from forebay_client import Reply
from forebay_schemas.metrics import GatewayMetrics
from redis.exceptions import RedisError

from .errors import ApiError
from .store import Kept

HEADER = "idempotency-key"
_KEPT_S = 3600
"""OpenAI's clients give up after minutes; a job that was started again by hand comes within the hour."""
_LEASE_S = 15.0
"""How long after the death of the first one's gateway the repeat takes its place."""
_RENEW_EVERY_S = _LEASE_S / 3
_LOOK_EVERY_S = 0.1
_MAX_CHARS = 255
# KEYS: a call. ARGV: what is known of it while it is not answered, and for how many milliseconds more; 0 for no more.
_HOLD = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end"

_log = logging.getLogger(__name__)


class Claim:
    """The first call under a key, which owes the others its answer."""

    def __init__(self, repeats: "Repeats", name: str, asked: str) -> None:
        self._repeats, self._name, self._asked = repeats, name, asked
        self._renewing = asyncio.create_task(self._renew())

    async def settle(self, reply: Reply | None) -> None:
        """Keep an answer; after an error the next call under the key asks anew."""
        self._renewing.cancel()
        answer = reply if reply is not None and reply.error is None else None
        await self._repeats._settle(self._name, self._asked, answer)

    async def _renew(self) -> None:
        """Say that this gateway lives, for as long as it does."""
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            await self._repeats._hold(self._name, self._asked, _LEASE_S)


class Repeats:
    """What is known of all such calls.

    Args:
        prefix: of every name in Redis.
    """

    def __init__(self, store: redis.Redis, prefix: str, metrics: GatewayMetrics) -> None:
        self._store, self._prefix, self._metrics = store, prefix, metrics
        self._held = store.register_script(_HOLD)

    async def claim(self, tenant: str, key: str, body: bytes) -> Claim | Reply | None:
        """Begin a call: whether it is the first, or the answer of the first.

        Args:
            body: what is asked; the same key may not stand for something else.

        Returns:
            None where Redis is away.

        Raises:
            ApiError: the key is too long, or stands for another body.
        """
        if not 0 < len(key) <= _MAX_CHARS:
            raise _wrong(f"has {len(key)} characters; give between 1 and {_MAX_CHARS}")
        # The name says whose it is, so that it is found when the tenant is forgotten.
        name = f"{self._prefix}:repeat:{tenant}:{hashlib.sha256(key.encode()).hexdigest()}"
        asked = hashlib.sha256(body).hexdigest()
        try:
            while not await self._store.set(name, _pending(asked), nx=True, px=round(_LEASE_S * 1000)):
                value = await self._store.get(name)
                known = msgspec.msgpack.decode(value, type=Kept) if value else None
                if known and known.asked != asked:
                    raise _wrong("was used for another body; choose a new one")
                if known and known.reply is not None:
                    return known.reply
                await asyncio.sleep(_LOOK_EVERY_S)
        except (RedisError, OSError) as error:
            self._failed(error)
            return None
        return Claim(self, name, asked)

    async def _settle(self, name: str, asked: str, answer: Reply | None) -> None:
        try:
            if answer is None:
                await self._hold(name, asked, 0)
            else:
                await self._store.set(name, msgspec.msgpack.encode(Kept(asked, answer)), ex=_KEPT_S)
        except (RedisError, OSError) as error:
            self._failed(error)

    async def _hold(self, name: str, asked: str, for_s: float) -> None:
        try:
            await self._held([name], [_pending(asked), round(for_s * 1000)])
        except (RedisError, OSError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._metrics.uncounted.labels("idempotency").inc()
        _log.warning("an Idempotency-Key is passed over: %s", error)


def _pending(asked: str) -> bytes:
    return msgspec.msgpack.encode(Kept(asked))


def _wrong(problem: str) -> ApiError:
    return ApiError(400, f"Idempotency-Key: {problem}", code="invalid_idempotency_key", param="Idempotency-Key")
