"""The Redis of the gateways: how it is reached, and what lies there.

Apart from all that serves calls, so that `forebay forget` needs no web framework for it.
"""

from typing import Any

import msgspec
import redis.asyncio as redis
from forebay_client import Reply
from forebay_schemas.config import Config
from forebay_schemas.sections import redis_server
from redis.backoff import NoBackoff
from redis.retry import Retry


def server(config: Config) -> dict[str, Any]:
    """Arguments of ``Redis.from_url`` for the Redis of the gateways, which may be another than the caches'."""
    own = config.gateway.redis_url
    reached = redis_server(own, config.redis.tls) if own else config.redis.client()
    timeout_s = config.redis.timeout_ms / 1000
    return {**reached, "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}


def connect(config: Config) -> redis.Redis:
    """To the Redis of the gateways."""
    return redis.Redis.from_url(
        **server(config),
        retry=Retry(NoBackoff(), 1),  # once: a pooled connection may have died with the server's restart
        retry_on_error=[redis.ConnectionError],
    )


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file. Times are seconds since the Unix epoch."""

    id: str
    tenant: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    """Of its bytes, in hex."""
    created_s: int
    expires_s: int
    contents: str
    """The name of its pieces in Redis: a file that is written again, by two copies at once too, gets new ones."""
    pieces: int


class Kept(msgspec.Struct):
    """What is known of the first call under an Idempotency-Key: a digest of what it asked, and its answer once there is
    one."""

    asked: str
    reply: Reply | None = None
