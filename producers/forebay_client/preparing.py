"""From a question to the record that is published: built, checked, encoded, and where it goes."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import InvalidRequest
from forebay_schemas.records import Lane, Request
from forebay_schemas.topics import Headers
from forebay_schemas.validation import validate

from .errors import RequestTooLarge
from .requests import Question, build_request

if TYPE_CHECKING:
    from forebay_schemas.spans import Span, Tracing


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that can be published.

    Attributes:
        span: open since now; None where the request is in no trace that is recorded.
    """

    request: Request
    topic: str
    value: bytes
    headers: Headers
    span: "Span | None"


class Preparation:
    """Prepares the requests of one client.

    Args:
        tenant: of requests that name none.
        reply_topic: where replies are to go; None: to the standard topic, which is named to nobody.
    """

    def __init__(
        self, config: Config, codec: Codec, tracing: "Tracing | None", tenant: str | None, reply_topic: str | None
    ) -> None:
        self._config = config
        self._codec = codec
        self._tracing = tracing
        self._tenant = tenant
        self._reply_topic = reply_topic

    def prepare(self, question: Question | None, fields: Mapping[str, Any], timeout_s: float | None) -> Prepared:
        """Prepare a request.

        Args:
            timeout_s: its deadline from now, unless it has one.

        Raises:
            InvalidRequest: a field, or ``timeout_s``, has a value that cannot be used.
            RequestTooLarge: no broker would take it.
        """
        now_ms = time.time_ns() // 1_000_000
        request, traceparent = build_request(question, fields, tenant=self._tenant, now_ms=now_ms)
        if timeout_s is not None:
            if not timeout_s > 0:
                raise InvalidRequest("timeout_s", f"is {timeout_s}", "give a positive number of seconds")
            if request.deadline_ms is None:
                request = msgspec.structs.replace(request, deadline_ms=now_ms + round(timeout_s * 1000))
        validate(request, self._config)
        value = self._codec.encode(request)
        if len(value) > self._config.kafka.max_record_bytes:
            raise RequestTooLarge(len(value), self._config.kafka.max_record_bytes)
        span = None
        if self._tracing is not None:
            span = self._tracing.enter("request", traceparent, now_ms)
            traceparent = span.traceparent
        headers = Headers(
            request_id=request.request_id,
            tenant=request.tenant,
            reply_topic=self._reply_topic,
            deadline_ms=request.deadline_ms,
            traceparent=traceparent,
        )
        return Prepared(request, self._topic(request), value, headers, span if span and span.recorded else None)

    def _topic(self, request: Request) -> str:
        """The tenant's own topic for the lane where the configuration has one, else the standard one."""
        for name, bound in self._config.request_topics.items():
            if bound.tenant == request.tenant and bound.lane == request.lane:
                return name
        topics = self._config.kafka.topics
        return topics.requests_batch if request.lane is Lane.BATCH else topics.requests
