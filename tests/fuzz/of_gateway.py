"""What is sent to the gateway."""

import asyncio
import json
from contextlib import ExitStack

import httpx
import pytest
from forebay_client import core
from forebay_gateway.app import make_app
from forebay_schemas.config import load_config
from forebay_schemas.metrics import GatewayMetrics
from prometheus_client import CollectorRegistry

from tests.producers.doubles import MemoryKafka

from .target import Take


def bodies(stack: ExitStack) -> Take:
    """The body of a chat completion, to the application itself: no defect answers it."""
    kafka, patched = MemoryKafka(), stack.enter_context(pytest.MonkeyPatch.context())
    patched.setattr(core, "Outbox", kafka.outbox)
    patched.setattr(core, "Inbox", kafka.inbox)
    app = make_app(load_config(), GatewayMetrics(CollectorRegistry()))
    loop = stack.enter_context(asyncio.Runner())
    lifespan = app.router.lifespan_context(app)
    loop.run(lifespan.__aenter__())
    stack.callback(lambda: loop.run(lifespan.__aexit__(None, None, None)))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

    def take(data: bytes) -> bool:
        kafka.sent.clear()
        posted = client.post("/v1/chat/completions", content=data, headers={"content-type": "application/json"})
        answered = loop.run(posted)
        assert answered.status_code in (200, 400, 404, 504), answered.text  # 504: a body may allow it a millisecond
        return answered.status_code == 200

    return take


def bodies_seeds() -> list[bytes]:
    plain = {"model": "auto", "messages": [{"role": "user", "content": "Hello?"}]}
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    full = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello?"}]}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": [1]}}}],
        "response_format": schema,
        "forebay": {"cache": {"scope": "shared", "sources": ["a"]}, "deadline_s": 9.5, "passages": ["b"]},
        "stop": ["a"],
        "seed": 1,
        "stream": True,
    }
    return [json.dumps(plain).encode(), json.dumps(plain | full).encode()]
