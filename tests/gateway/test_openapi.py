"""The gateway is what its OpenAPI document says, whatever is sent to it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from forebay_client import core
from forebay_gateway.brokers import Brokers
from forebay_gateway.keys import KeyFile
from forebay_schemas.config import changed, load_config
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.gateway.feed import feeds_of
from tests.gateway.running import Gateway, always_there, gateway_on
from tests.producers.doubles import MemoryKafka
from tests.redis_server import RedisServer

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
    ignored_auth,
]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file of keys, and one of them."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    return file, KeyFile(file).create("acme")[1]


@pytest.fixture(scope="module")
def served(key: tuple[Path, str], redis_process: RedisServer) -> Iterator[Gateway]:
    """A gateway for all that is sent to it."""
    kafka = MemoryKafka()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(core, "Outbox", kafka.outbox)
        patched.setattr(core, "Inbox", kafka.inbox)
        patched.setattr(core, "ReplyFeed", feeds_of(kafka))
        patched.setattr(Brokers, "know_the_topic", always_there)
        settings = {
            "gateway": {"timeout_s": 5, "key_file": key[0], "aliases": {"*": "auto"}},
            "redis": {"url": redis_process.url, "timeout_ms": 5_000},
        }
        with gateway_on(changed(load_config(), settings)) as gateway:
            yield gateway


@pytest.fixture(scope="module")
def document(served: Gateway, key: tuple[Path, str]) -> Any:
    settings = SchemathesisConfig.from_dict({"auth": {"openapi": {"key": {"bearer": key[1]}}}})
    return schemathesis.openapi.from_url(f"{served.address}/openapi.json", config=settings)


def sayable(value: Any) -> Any:
    """The value without control characters, which no document can say are refused."""
    if isinstance(value, str):
        return "".join(filter(str.isprintable, value)) or "x"
    if isinstance(value, dict):
        return {sayable(name): sayable(item) for name, item in value.items()}
    return [sayable(item) for item in value] if isinstance(value, list) else value


def answerable(body: dict[str, Any]) -> dict[str, Any]:
    """A body that keeps what no document can say: each turn has a text, only streams have options, and an answer takes
    its time."""
    body = sayable(body)
    body["forebay"] = {**body.get("forebay", {}), "deadline_s": None}
    turns = [turn | {"content": turn.get("content") or "x"} for turn in body["messages"]]
    options = body.get("stream_options") if body.get("stream") else None
    return body | {"messages": [*turns, {"role": "user", "content": "Hello?"}], "stream_options": options}


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_what_is_sent_is_answered_as_documented(document: Any, served: Gateway, mode: GenerationMode) -> None:
    for found in document.get_all_operations():

        @given(case=found.ok().as_strategy(generation_mode=mode))
        @settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large])
        def check(case: schemathesis.Case) -> None:
            if mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and "messages" in case.body:
                case.body = answerable(case.body)
            case.call_and_validate(checks=CHECKS)

        with suppress(Unsatisfiable):  # of a call without any field nothing can be wrong
            check()
    status = "200" if mode is GenerationMode.POSITIVE else "400"
    assert served.counted("forebay_gateway_calls_total", path="/v1/chat/completions", status=status) > 0


def test_the_document_says_who_may_call_and_knows_no_status_that_is_not_used(served: Gateway) -> None:
    document = httpx.get(f"{served.address}/openapi.json").json()
    create = document["paths"]["/v1/chat/completions"]["post"]
    assert create["security"] == [{"key": []}]
    assert "422" not in create["responses"]
    assert {"400", "401", "404", "413", "429", "503", "504"} <= create["responses"].keys()
    assert "forebay" in document["components"]["schemas"]["ChatRequest"]["properties"]
