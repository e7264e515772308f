"""Spans as a collector gets them, kept in memory."""

from typing import TYPE_CHECKING, Any, get_args
from unittest import mock

from forebay_schemas.config import Config
from forebay_schemas.sections import TracingConfig
from forebay_schemas.tracing import Part, tracing_for

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
"""Of a trace that is recorded."""
NOT_RECORDED = f"{PARENT[:-2]}00"

SETTINGS = """
[tracing]
endpoint = "http://memory:4318"
sample_ratio = 1.0
"""
"""A configuration with these has its spans kept here."""


class Recorded:
    """What all parts of this process have recorded since ``forget``."""

    def __init__(self) -> None:
        from forebay_schemas import spans
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self._memory = InMemorySpanExporter()
        self._settings = TracingConfig(endpoint="http://memory:4318", sample_ratio=1.0)
        config = Config.model_construct(tracing=self._settings)
        with mock.patch.object(spans, "Collector", return_value=self._memory):
            found = [tracing_for(config, part) for part in get_args(Part)]
        self._parts = [tracing for tracing in found if tracing is not None]

    def traced(self, config: Config) -> Config:
        """The configuration with every trace recorded here."""
        return config.model_copy(update={"tracing": self._settings})

    def forget(self) -> None:
        self.spans()
        self._memory.clear()

    def spans(self) -> list["ReadableSpan"]:
        """Those that are over, in that order within each part."""
        for tracing in self._parts:
            tracing.flush(60)
        return list(self._memory.get_finished_spans())

    def span(self, name: str) -> "ReadableSpan":
        """The only one of a name."""
        (span,) = [span for span in self.spans() if span.name == name]
        return span

    def tree(self, of: int | None = None, indent: str = "") -> list[str]:
        """Service and name of each span, below its parent and in the order of their ends.

        Args:
            of: id of the span whose children they are; absent: spans whose parent is not among them.
        """
        spans = self.spans()
        ids = {id_of(span) for span in spans}
        parents = {id_of(span): span.parent.span_id if span.parent else None for span in spans}
        below = [
            span for span in spans if parents[id_of(span)] == of or (of is None and parents[id_of(span)] not in ids)
        ]
        lines: list[str] = []
        for span in sorted(below, key=lambda span: span.end_time or 0):
            lines += [f"{indent}{service(span)} {span.name}", *self.tree(id_of(span), indent + "  ")]
        return lines


def id_of(span: "ReadableSpan") -> int:
    assert span.context is not None
    return span.context.span_id


def traceparent(span: "ReadableSpan") -> str:
    """What the records written within a span carry."""
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


def service(span: "ReadableSpan") -> str:
    return str(span.resource.attributes["service.name"]).removeprefix("forebay-")


def ms(span: "ReadableSpan") -> tuple[float, float]:
    """Start and end in milliseconds since the epoch."""
    return (span.start_time or 0) // 1000 / 1000, (span.end_time or 0) // 1000 / 1000  # no digits that a float lacks


def says(span: "ReadableSpan") -> dict[str, Any]:
    """Its attributes."""
    return dict(span.attributes or {})
