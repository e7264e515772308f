"""What every call passes before it is read: who calls, whether they may now, and how much they may send.

It stands before routing and parsing, so that nothing of a call without a key is read, and holds for every path that is
not open to all.
"""

import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from forebay_schemas.config import Config
from forebay_schemas.metrics import GatewayMetrics
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, overloaded, too_large_file
from .keys import Key, Keys
from .limits import Limits

OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
"""Paths without a key: they tell nothing of anybody."""
_COUNTED = "/v1/"
"""The page asks for its figures all the time."""
_SPENDING = frozenset({"/v1/chat/completions", "/v1/batches"})
"""What costs tokens and money. Whoever has spent all may still fetch what was paid for."""
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_FILES = "/v1/files"
_FORM_BYTES = 65_536
"""What a form adds to the file in it."""
_BODY_PER_RECORD = 2
"""JSON writes some texts longer than a record does; what is too large as a record is found out about later."""
_SIZE_DIGITS = 18
"""Of a length that somebody states; more make no difference, and thousands of them no number."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        key: None where none is asked for.
    """

    tenant: str
    key: Key | None = None

    @property
    def sees_all(self) -> bool:
        """Whether it may look at every tenant's traffic."""
        return self.key is None or self.key.sees_all


class Gate:
    """ASGI middleware. A call's ``state`` gets its ``caller``.

    Args:
        keys: None: none is asked for, and only calls that name this machine are taken: a page of some other site that
            is open in a browser here would name that site.
        inner: the application.
    """

    def __init__(
        self, inner: ASGIApp, *, config: Config, keys: Keys | None, limits: Limits, metrics: GatewayMetrics
    ) -> None:
        self._inner = inner
        self._tenant = config.gateway.tenant
        self._most = config.gateway.max_inflight
        self._most_bytes = _BODY_PER_RECORD * config.kafka.max_record_bytes
        self._most_file_bytes = config.gateway.max_file_bytes
        self._keys, self._limits, self._metrics = keys, limits, metrics
        self._inflight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        with self._counted(scope, send) as counting_send:
            try:
                if scope["path"] not in OPEN:
                    self._inflight_checked()
                    scope.setdefault("state", {})["caller"] = await self._caller(scope)
                    receive = self._bounded(scope, receive)
                await self._inner(scope, receive, counting_send)
            except ApiError as error:
                await error.response()(scope, receive, counting_send)

    def _inflight_checked(self) -> None:
        if self._inflight > self._most:
            self._metrics.refused.labels("busy").inc()
            raise overloaded(self._most)

    async def _caller(self, scope: Scope) -> Caller:
        headers = Headers(scope=scope)
        if self._keys is None:
            if _host(headers) not in _LOCAL:
                self._metrics.refused.labels("host").inc()
                raise ApiError(
                    403, "without keys only calls to localhost are taken; configure gateway.key_file", code="no_keys"
                )
            return Caller(self._tenant)
        scheme, _, text = headers.get("authorization", "").partition(" ")
        key = self._keys.of(text.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            self._metrics.refused.labels("key").inc()
            raise ApiError(
                401,
                "the API key is missing, unknown or revoked; send `Authorization: Bearer fb_...`",
                code="invalid_api_key",
            )
        if scope["path"].startswith(_COUNTED):
            spends = scope["method"] == "POST" and scope["path"] in _SPENDING
            await self._limits.admit(key, datetime.now(UTC), spends=spends)
        return Caller(key.tenant, key)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """The body, as far as it may go: by what it says of its length, and by what comes."""
        if scope["path"] == _FILES:
            most, refused = self._most_file_bytes + _FORM_BYTES, too_large_file(self._most_file_bytes)
        else:
            most = self._most_bytes
            refused = ApiError(413, f"the body is larger than {most} bytes; send less context", code="too_large")

        def check(size: int) -> None:
            if size > most:
                self._metrics.refused.labels("too_large").inc()
                raise refused

        said = Headers(scope=scope).get("content-length", "")
        check(int(said[:_SIZE_DIGITS]) if said.isdecimal() else 0)
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            check(read)
            return message

        return bounded

    @contextmanager
    def _counted(self, scope: Scope, send: Send) -> Any:
        status, began_s = "none", time.monotonic()

        async def counting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        self._inflight += 1
        self._metrics.inflight.inc()
        try:
            yield counting_send
        finally:
            self._inflight -= 1
            self._metrics.inflight.dec()
            path = _routed(scope)
            self._metrics.calls.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.monotonic() - began_s)


def _host(headers: Headers) -> str:
    host = headers.get("host", "")
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]


def _routed(scope: Scope) -> str:
    """The path as it is written in the code: what callers make up must not become a series of its own."""
    route: Any = scope.get("route")
    return getattr(route, "path", "none")
