"""Spans of requests: OpenTelemetry's SDK in the service of records that carry a W3C ``traceparent``.

Whether a trace is recorded is decided where it begins, and its flag says so to all who come after. Spans are recorded
once they are over, because stages are known by their durations then; times are milliseconds since the Unix epoch.
"""

import logging
import threading
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .sections import TracingConfig
from .tracing import Attributes, Part

EXPORT_EVERY_MS = 1_000
"""What a process records in its last second is lost where it ends without a flush, as a killed TaskManager does."""
QUEUED_SPANS = 8_192
"""Of one process; what comes while as many wait for the collector is left out. One takes some 3 kB."""
FLUSH_S = 2.0
"""How long an end waits for a collector that does not answer."""
COMPLAIN_EVERY_S = 60.0

Kind = Literal["internal", "client", "producer"]

_SAMPLED = frozenset("13579bdf")
"""Last digits of the flags of a recorded trace, whose lowest bit says so."""
_FLAGS_END = 54
"""Where that digit stands in a traceparent: version, trace, span and flags have 2, 32, 16 and 2 of them."""
_PROPAGATOR = TraceContextTextMapPropagator()

_delivering: ContextVar[bool] = ContextVar("delivering", default=False)
_log = logging.getLogger(__name__)


class Span:
    """A span that is open; one that is never ended is not exported.

    Attributes:
        traceparent: what a record carries so that its reader's spans become children of this one; None where there is
            none to carry, because OpenTelemetry is switched off by its own variable (``OTEL_SDK_DISABLED``).
    """

    __slots__ = ("_span", "_start_ms", "_tracer", "traceparent")

    def __init__(
        self, tracer: trace.Tracer, name: str, context: Context | None, kind: SpanKind, start_ms: float
    ) -> None:
        self._tracer = tracer
        self._start_ms = start_ms
        self._span = tracer.start_span(name, context, kind, start_time=_ns(start_ms))
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(self._span))
        self.traceparent = carrier.get("traceparent")

    @property
    def recorded(self) -> bool:
        """Whether anybody will see it."""
        return self._span.is_recording()

    def child(
        self,
        name: str,
        start_ms: float,
        end_ms: float,
        attributes: Attributes | None = None,
        *,
        kind: Kind = "internal",
        error: str | None = None,
    ) -> str | None:
        """Record a stage within this span, after it; its traceparent."""
        span = Span(self._tracer, name, trace.set_span_in_context(self._span), SpanKind[kind.upper()], start_ms)
        span.end(end_ms, attributes or {}, error)
        return span.traceparent

    def end(self, end_ms: float, attributes: Attributes, error: str | None = None) -> None:
        """Record the span; ``error`` is a code, no message, which might quote a text."""
        self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(_ns(max(self._start_ms, end_ms)))  # clocks of two machines may disagree


class Tracing:
    """Begins spans of one part, and sends what is over to the collector from a thread of its own."""

    def __init__(self, settings: TracingConfig, part: Part) -> None:
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
            resource=Resource.create({SERVICE_NAME: f"{settings.service_prefix}-{part}"}),
            shutdown_on_exit=False,  # it would wait for 30 s; whoever ends flushes
        )
        exporter = Collector(f"{settings.endpoint}/v1/traces")
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=QUEUED_SPANS, schedule_delay_millis=EXPORT_EVERY_MS)
        )
        self._tracer = self._provider.get_tracer("forebay")

    def enter(self, name: str, traceparent: str | None, start_ms: float) -> Span:
        """A span of whoever sends a request: in the given trace, else in the caller's current one, else in a new one.

        Only a new trace asks ``tracing.sample_ratio``.
        """
        context = None if traceparent is None else _context(traceparent)
        return Span(self._tracer, name, context, SpanKind.PRODUCER, start_ms)

    def follow(self, name: str, traceparent: str | None, start_ms: float) -> Span | None:
        """A span for the work on a record; None where the record is in no trace, or in one that is not recorded."""
        if traceparent is None or traceparent[_FLAGS_END : _FLAGS_END + 1] not in _SAMPLED:
            return None
        context = _context(traceparent)
        if not trace.get_current_span(context).get_span_context().is_valid:
            return None
        return Span(self._tracer, name, context, SpanKind.CONSUMER, start_ms)

    def flush(self, timeout_s: float = FLUSH_S) -> None:
        """Wait until what is over has been sent, at most so long."""
        flushing = threading.Thread(target=self._provider.force_flush, name="forebay-traces", daemon=True)
        flushing.start()
        flushing.join(timeout_s)


class Collector(OTLPSpanExporter):
    """The collector, which may be away: that is said once a minute, in place of several lines for each batch."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint=endpoint)
        self._address = endpoint
        self._lost = 0
        self._complain_at_s = 0.0
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(_is_anothers)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        token = _delivering.set(True)
        try:
            result = super().export(spans)
        finally:
            _delivering.reset(token)
        if result is not SpanExportResult.SUCCESS:
            self._complain(len(spans))
        return result

    def _complain(self, lost: int) -> None:
        self._lost += lost
        if time.monotonic() < self._complain_at_s:
            return
        _log.warning("%d spans did not reach %s; check tracing.endpoint, and that it runs", self._lost, self._address)
        self._lost = 0
        self._complain_at_s = time.monotonic() + COMPLAIN_EVERY_S


def _is_anothers(_: logging.LogRecord) -> bool:
    """Whether a line of the exporter's library is not about our spans: a service may use it for its own."""
    return not _delivering.get()


def _context(traceparent: str) -> Context:
    """The trace that a record is in; an empty context where that cannot be read."""
    return _PROPAGATOR.extract({"traceparent": traceparent}, Context())


def _ns(ms: float) -> int:
    return round(ms * 1_000) * 1_000
