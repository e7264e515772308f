"""Tracing as its parts see it: who decides what is recorded, and what a collector gets or costs that is away."""

import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ConfigError
from forebay_schemas.records import CacheStatus
from forebay_schemas.sections import TracingConfig
from forebay_schemas.tracing import reply_attributes, tracing_for

from tests.builders import NOW_MS, make_reply
from tests.recorded import NOT_RECORDED, PARENT, TRACE, Recorded, ms, says, service, traceparent


def tracing_with(**settings: Any) -> Any:
    config = load_config().model_copy(update={"tracing": TracingConfig(**settings)})
    return tracing_for(config, "job")


@pytest.fixture
def tracing(recorded: Recorded) -> Any:
    return tracing_for(recorded.traced(load_config()), "job")


# What is recorded


def test_without_an_endpoint_there_is_nothing() -> None:
    assert tracing_for(load_config(), "client") is None


def test_a_span_has_its_times_its_service_and_what_was_said_of_it(tracing: Any, recorded: Recorded) -> None:
    span = tracing.follow("job", PARENT, NOW_MS + 0.25)
    span.end(NOW_MS + 7.5, {"forebay.tier": "small", "forebay.similarity": None})
    span = recorded.span("job")
    assert ms(span) == (NOW_MS + 0.25, NOW_MS + 7.5)
    assert (service(span), span.kind.name, says(span)) == ("job", "CONSUMER", {"forebay.tier": "small"})
    assert span.parent is not None
    assert traceparent(span).split("-")[1] == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]


def test_a_stage_is_a_child_and_an_error_is_its_code(tracing: Any, recorded: Recorded) -> None:
    span = tracing.follow("job", PARENT, NOW_MS)
    told = span.child("dispatch", NOW_MS, NOW_MS + 1, kind="producer", error="internal")
    span.end(NOW_MS + 2, {})
    assert recorded.tree() == ["job job", "  job dispatch"]
    stage = recorded.span("dispatch")
    assert (told, stage.kind.name, stage.status.is_ok) == (traceparent(stage), "PRODUCER", False)
    assert says(stage) == {"error.type": "internal"}


def test_a_span_does_not_end_before_it_begins_where_clocks_disagree(tracing: Any, recorded: Recorded) -> None:
    tracing.follow("reply", PARENT, NOW_MS).end(NOW_MS - 500, {})
    assert ms(recorded.span("reply")) == (NOW_MS, NOW_MS)


@pytest.mark.parametrize(
    "traceparent", [None, "", "00-trace", "ff" + PARENT[2:], f"00-{'0' * 32}-{'1' * 16}-01", NOT_RECORDED]
)
def test_a_record_in_no_recorded_trace_has_no_span(tracing: Any, traceparent: str | None) -> None:
    assert tracing.follow("job", traceparent, NOW_MS) is None


def test_a_new_trace_is_recorded_as_often_as_set_and_says_so_to_all(recorded: Recorded) -> None:
    for ratio, wanted in ((0.0, 0), (1.0, 40)):
        tracing = tracing_with(endpoint="http://127.0.0.1:1", sample_ratio=ratio)
        spans = [tracing.enter("request", None, NOW_MS) for _ in range(40)]
        follow = [tracing.follow("job", span.traceparent, NOW_MS) for span in spans]
        assert len([span for span in spans if span.recorded]) == wanted
        assert len([span for span in follow if span]) == wanted


def test_a_trace_that_is_given_is_not_decided_anew() -> None:
    never = tracing_with(endpoint="http://127.0.0.1:1", sample_ratio=0.0)
    always = tracing_with(endpoint="http://127.0.0.1:1", sample_ratio=1.0)
    recorded, not_recorded = never.enter("request", PARENT, NOW_MS), always.enter("request", NOT_RECORDED, NOW_MS)
    assert (recorded.recorded, recorded.traceparent[3:35], recorded.traceparent[-2:]) == (True, TRACE, "01")
    assert (not_recorded.recorded, not_recorded.traceparent[3:35], not_recorded.traceparent[-2:]) == (
        False,
        TRACE,
        "00",
    )


def test_where_opentelemetry_is_switched_off_as_a_whole_traces_only_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracing = tracing_with(endpoint="http://switched-off:4318", sample_ratio=1.0)
    assert [tracing.enter("request", given, NOW_MS).traceparent for given in (None, PARENT)] == [None, PARENT]
    assert not tracing.enter("request", PARENT, NOW_MS).recorded


def test_a_reply_is_described_without_its_text_and_its_user() -> None:
    reply = make_reply(user="ada", text="secret", similarity=0.5, cache_status=CacheStatus.SEMANTIC)
    attributes = reply_attributes(reply)
    assert attributes["forebay.cache_status"] == "semantic"
    assert not {"ada", "secret"} & {str(value) for value in attributes.values()}


# Settings


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("collector:4318", "tracing.endpoint: 'collector:4318' is no http address; give the collector's"),
        ("http://collector:4318/v1/traces", "leave out /v1/traces"),
        ("http://ada:geheim@collector:4318", "tracing.endpoint: holds a user"),
    ],
)
def test_an_endpoint_that_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str, message: str) -> None:
    monkeypatch.setenv("FOREBAY_TRACING__ENDPOINT", endpoint)
    with pytest.raises(ConfigError, match=message):
        load_config()


def test_without_the_packages_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "forebay_schemas.spans", raising=False)
    with pytest.raises(ConfigError, match=r"opentelemetry is missing; install forebay\[tracing\]"):
        tracing_with(endpoint="http://not-asked-before:4318")


# The collector


class Server(HTTPServer):
    """A collector; ``status`` is what it answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.bodies: list[bytes] = []
        self.held = threading.Event()
        self.held.set()

    @property
    def config(self) -> Config:
        settings = TracingConfig(endpoint=f"http://127.0.0.1:{self.server_port}", sample_ratio=1.0)
        return load_config().model_copy(update={"tracing": settings})


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        collector = self.server
        assert isinstance(collector, Server)
        assert self.path == "/v1/traces"
        collector.held.wait(30)
        collector.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(collector.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    serving = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    serving.start()
    yield server
    server.held.set()
    server.shutdown()
    server.server_close()


def test_spans_reach_a_collector_as_otlp(server: Server) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    tracing: Any = tracing_for(server.config, "worker")
    span = tracing.follow("task", PARENT, NOW_MS)
    span.child("generation", NOW_MS, NOW_MS + 40, {"gen_ai.response.finish_reasons": ["stop"]}, kind="client")
    span.end(NOW_MS + 50, {"forebay.cache_status": CacheStatus.MISS, "forebay.hops": 1}, "internal")
    tracing.flush()
    (body,) = server.bodies
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    names = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert names["service.name"] == "forebay-worker"
    generation, task = resource.scope_spans[0].spans
    assert (task.name, generation.name, generation.parent_span_id) == ("task", "generation", task.span_id)
    assert (task.trace_id.hex(), task.start_time_unix_nano, task.end_time_unix_nano) == (
        TRACE,
        NOW_MS * 10**6,
        (NOW_MS + 50) * 10**6,
    )
    said = {item.key: item.value for item in task.attributes}
    assert (said["forebay.cache_status"].string_value, said["forebay.hops"].int_value) == ("miss", 1)
    assert task.status.code == task.status.STATUS_CODE_ERROR


def test_a_collector_that_refuses_is_complained_of_once_a_minute(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.status = 400
    tracing: Any = tracing_for(server.config, "worker")
    for _ in range(3):
        tracing.follow("task", PARENT, NOW_MS).end(NOW_MS, {})
        tracing.flush()
    assert len(server.bodies) == 3
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"1 spans did not reach {server.config.tracing.endpoint}/v1/traces; check tracing.endpoint" in line


def test_a_collector_that_does_not_answer_holds_nobody_up(server: Server) -> None:
    server.held.clear()
    tracing: Any = tracing_for(server.config, "client")
    tracing.follow("task", PARENT, NOW_MS).end(NOW_MS, {})
    tracing.flush(0.05)
    assert "forebay-traces" in [thread.name for thread in threading.enumerate()]  # it goes on, unattended
    assert not server.bodies
