"""A client's part of a trace: from publishing to the reply, below the span of the service that asks."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from forebay_client import AsyncClient, Client, InvalidRequest
from forebay_schemas.config import Config
from forebay_schemas.records import ReplyError

from tests.builders import make_reply
from tests.producers.doubles import MemoryKafka, silence
from tests.recorded import NOT_RECORDED, PARENT, TRACE, Recorded, says, traceparent


@pytest.fixture
def traced(config: Config, recorded: Recorded) -> Config:
    return recorded.traced(config)


@pytest.fixture
def tracing(kafka: MemoryKafka, traced: Config) -> Iterator[Client]:
    with Client("acme", config=traced) as client:
        yield client


@pytest.fixture
def service() -> Any:
    """The tracer of the service that asks."""
    from opentelemetry.sdk.trace import TracerProvider

    return TracerProvider(shutdown_on_exit=False).get_tracer("service")


def test_a_request_carries_the_span_that_lasts_until_its_reply(
    tracing: Client, kafka: MemoryKafka, recorded: Recorded
) -> None:
    tracing.ask("Where is my parcel?", request_id="a", endpoint="desk", user="ada")
    tracing.close()
    request = recorded.span("request")
    assert kafka.sent[0].headers.traceparent == traceparent(request)
    assert (request.parent, request.kind.name, request.status.is_ok) == (None, "PRODUCER", True)
    assert says(request) == {
        "forebay.request_id": "a",
        "forebay.tenant": "acme",
        "forebay.category": "default",
        "forebay.lane": "interactive",
        "forebay.cache_status": "miss",
        "forebay.hops": 1,
        "forebay.cost": 0.0,
        "gen_ai.response.model": "llama-3.1-8b",
    }


def test_a_reply_is_received_in_the_span_of_who_wrote_it(
    tracing: Client, kafka: MemoryKafka, recorded: Recorded
) -> None:
    tracing.ask("Hello?")
    tracing.close()
    assert recorded.tree() == ["client request", "  client reply"]
    assert recorded.span("reply").kind.name == "CONSUMER"


def test_an_error_reply_is_an_error_of_the_request(tracing: Client, kafka: MemoryKafka, recorded: Recorded) -> None:
    error = ReplyError(code="engine_failed", message="a text", retryable=True)
    kafka.answer = lambda request: [make_reply(request_id=request.request_id, text="", error=error)]
    tracing.publish("Hello?", on_reply=lambda _: None)
    tracing.close()
    request = recorded.span("request")
    assert (request.status.is_ok, says(request)["error.type"]) == (False, "engine_failed")
    assert "a text" not in f"{says(request)} {request.status.description}"


def test_a_request_without_a_reply_ends_with_what_befell_it(
    tracing: Client, kafka: MemoryKafka, recorded: Recorded
) -> None:
    kafka.answer = silence
    tracing.publish("Hello?", on_failure=lambda *_: None)
    tracing.close()
    assert says(recorded.span("request"))["error.type"] == "ClientClosed"


@pytest.mark.parametrize(("delivery", "error"), [(None, None), ("broken", "not_delivered")])
def test_a_request_whose_reply_is_not_awaited_ends_at_the_brokers(
    tracing: Client, kafka: MemoryKafka, recorded: Recorded, delivery: str | None, error: str | None
) -> None:
    kafka.delivery = delivery
    tracing.publish("Hello?", request_id="a")
    said = says(recorded.span("request"))
    assert (said["forebay.request_id"], said.get("error.type")) == ("a", error)
    kafka.delivery = None
    if error:
        with pytest.raises(Exception, match="did not reach"):
            tracing.close()


def test_a_request_that_is_refused_has_no_span(tracing: Client, recorded: Recorded) -> None:
    with pytest.raises(InvalidRequest):
        tracing.publish("Hello?", temperature=9.0)
    assert recorded.spans() == []


@pytest.mark.parametrize("given", [PARENT, NOT_RECORDED])
def test_a_trace_that_is_given_goes_on(tracing: Client, kafka: MemoryKafka, recorded: Recorded, given: str) -> None:
    tracing.publish("Hello?", traceparent=given)
    sent = kafka.sent[0].headers.traceparent or ""
    assert (sent[3:35], sent[-2:], sent != given) == (TRACE, given[-2:], True)
    assert len(recorded.spans()) == (given == PARENT)


def test_the_span_of_the_service_is_the_parent(tracing: Client, recorded: Recorded, service: Any) -> None:
    with service.start_as_current_span("checkout") as checkout:
        tracing.ask("Hello?")
    tracing.close()
    parent = recorded.span("request").parent
    assert parent is not None
    assert parent.span_id == checkout.context.span_id


def test_the_span_of_the_coroutine_is_the_parent(
    kafka: MemoryKafka, traced: Config, recorded: Recorded, service: Any
) -> None:
    async def ask() -> int:
        async with AsyncClient("acme", config=traced) as client:
            with service.start_as_current_span("checkout") as checkout:
                await client.ask("Hello?")
                await client.publish("Hello again?")
            return checkout.context.span_id

    wanted = asyncio.run(ask())
    requests = [span for span in recorded.spans() if span.name == "request"]
    assert [span.parent and span.parent.span_id for span in requests] == [wanted, wanted]


def test_a_client_that_does_not_trace_carries_a_trace_on(
    client: Client, kafka: MemoryKafka, recorded: Recorded
) -> None:
    client.ask("Hello?", traceparent=PARENT)
    client.ask("Hello?")
    assert [sent.headers.traceparent for sent in kafka.sent] == [PARENT, None]
    client.close()
    assert recorded.spans() == []
