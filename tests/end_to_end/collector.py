"""A collector of traces: takes OTLP over HTTP as a real one does, and keeps what it gets."""

import threading
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Collected:
    """One span; ids are in hex."""

    service: str
    name: str
    span_id: str
    parent_id: str


class Collector:
    """The collector, with a server in a thread of this process. Use it as ``with Collector() as it``."""

    def __init__(self) -> None:
        self._traces: defaultdict[str, list[Collected]] = defaultdict(list)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def tree(self, trace_id: str, below: str, indent: str = "") -> list[str]:
        """Service and name of each span of a trace that has come by now, below its parent, in the order of names.

        Args:
            below: id of the span whose children they are.
        """
        lines: list[str] = []
        for span in sorted(self._traces[trace_id], key=lambda span: span.name):
            if span.parent_id == below:
                children = self.tree(trace_id, span.span_id, indent + "  ")
                lines += [f"{indent}{span.service} {span.name}", *children]
        return lines

    def count(self, trace_id: str) -> int:
        """How many spans of a trace have come."""
        return len(self._traces[trace_id])

    def __enter__(self) -> "Collector":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, body: bytes) -> None:
        for exported in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {each.key: each.value.string_value for each in exported.resource.attributes}
            for scope in exported.scope_spans:
                for span in scope.spans:
                    collected = Collected(
                        named["service.name"], span.name, span.span_id.hex(), span.parent_span_id.hex()
                    )
                    self._traces[span.trace_id.hex()].append(collected)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, format: str, *args: Any) -> None: ...

        return Handler
