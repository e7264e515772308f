"""Redis as the job uses it: one pool of connections, short timeouts, and one judgement on whether it is away."""

import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from forebay_schemas.config import Config
from forebay_schemas.metrics import JobMetrics
from redis.backoff import NoBackoff
from redis.retry import Retry

from .guard import StoreGuard
from .round_trip import RoundTrip

T = TypeVar("T")

_FORMAT = 3
"""Part of every key: entries of another format are never read."""


class _Loan:
    """A connection of a pool, for as long as a thread lives: what is local to one goes with it."""

    def __init__(self, pool: Any) -> None:  # typed for asynchronous clients too
        self._pool = pool
        self.connection = pool.get_connection()

    def __del__(self) -> None:
        if hasattr(self, "connection"):
            self._pool.release(self.connection)


class RedisStore:
    """What all users of Redis in one process share. Safe to share between threads.

    Attributes:
        prefix: of every key of this installation.
    """

    def __init__(self, config: Config, metrics: JobMetrics) -> None:
        settings = config.redis
        timeout_s = settings.timeout_ms / 1000
        self._client = redis.Redis.from_url(
            **settings.client(),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # Once: a pooled connection may have died with the server's restart.
            retry=Retry(NoBackoff(), 1),
            retry_on_error=[redis.ConnectionError],
        )
        self._kept = threading.local()
        self._guard = StoreGuard("redis", settings.retry_after_ms, metrics)
        self.prefix = f"{config.kafka.topic_prefix}:{_FORMAT}"
        metrics.memory.set_function(lambda: self._memory_bytes("used_memory"))
        metrics.memory_limit.set_function(lambda: self._memory_bytes("maxmemory"))

    def call(self, function: Callable[[redis.Redis], T], without: T) -> T:
        """What the function returns for a client, or ``without`` while Redis is away."""
        return self._guard.call(lambda: function(self._client), without)

    def round_trip(self) -> RoundTrip:
        """Commands to be asked together, by this thread and within ``call``; one at a time."""
        if not hasattr(self._kept, "loan"):
            self._kept.loan = _Loan(self._client.connection_pool)
        return RoundTrip(self._kept.loan.connection)

    def _memory_bytes(self, field: str) -> float:
        """What Redis says of its memory when it is asked; NaN where it does not say."""
        try:
            told: Any = self._client.info("memory")
        except redis.RedisError:  # not a reason to leave the store alone: a managed one may refuse this command
            return math.nan
        return float(told.get(field, math.nan))
