"""What is sent to the gateway."""

import asyncio
import json
import logging
import tempfile
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from forebay_client import core
from forebay_gateway.app import make_app
from forebay_gateway.keys import KeyFile
from forebay_schemas.config import changed, load_config
from forebay_schemas.metrics import GatewayMetrics
from prometheus_client import CollectorRegistry

from tests.producers.batch_doubles import MemoryLog, a_line
from tests.producers.doubles import MemoryKafka
from tests.redis_server import RedisServer, redis_binary

from .target import Take

_T = TypeVar("_T")
_JSON = "application/json"
_KEY, _FILE = b"KEY", b"FILE"
"""In a call: a key that is good, and a file that is there."""
_PLAIN = {"model": "auto", "messages": [{"role": "user", "content": "Hello?"}]}


class _Application:
    """The application itself, without a server in front of it, on a broker in memory."""

    def __init__(self, stack: ExitStack, settings: dict[str, Any]) -> None:
        self.kafka, patched = MemoryKafka(), stack.enter_context(pytest.MonkeyPatch.context())
        patched.setattr(core, "Outbox", self.kafka.outbox)
        patched.setattr(core, "Inbox", self.kafka.inbox)
        MemoryLog(patched)
        app = make_app(changed(load_config(), settings), GatewayMetrics(CollectorRegistry()))
        self._loop = stack.enter_context(asyncio.Runner())
        lifespan = app.router.lifespan_context(app)
        self._loop.run(lifespan.__aenter__())
        stack.callback(lambda: self._loop.run(lifespan.__aexit__(None, None, None)))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

    def run(self, call: Coroutine[Any, Any, _T]) -> _T:
        self.kafka.sent.clear()
        return self._loop.run(call)


def bodies(stack: ExitStack) -> Take:
    """The body of a chat completion: no defect answers it."""
    application = _Application(stack, {})

    def take(data: bytes) -> bool:
        posted = application.client.post("/v1/chat/completions", content=data, headers={"content-type": _JSON})
        answered = application.run(posted)
        assert answered.status_code in (200, 400, 404, 504), answered.text  # 504: a body may allow it a millisecond
        return answered.status_code == 200

    return take


def bodies_seeds() -> list[bytes]:
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
    return [json.dumps(_PLAIN).encode(), json.dumps(_PLAIN | full).encode()]


def calls(stack: ExitStack) -> Take:
    """Any call: its method, path and query, its headers, its body. No defect answers it."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    redis = RedisServer(redis_binary(), folder)
    stack.callback(redis.kill)
    _, key = KeyFile(folder / "keys.json").create("acme", requests_per_min=10**9)
    settings = {
        "gateway": {"key_file": str(folder / "keys.json"), "timeout_s": 20},
        "redis": {"url": redis.url, "timeout_ms": 5_000},
    }
    logging.getLogger("httpx").setLevel(logging.WARNING)
    application = _Application(stack, settings)
    rows = json.dumps(a_line("row-1", "Hello?")).encode()
    given = {"files": {"file": ("rows.jsonl", rows)}, "data": {"purpose": "batch"}}
    uploaded = application.run(
        application.client.post("/v1/files", headers={"authorization": f"Bearer {key}"}, **given)
    ).json()["id"]

    def take(data: bytes) -> bool:
        head, _, body = data.replace(_KEY, key.encode()).replace(_FILE, uploaded.encode()).partition(b"\n\n")
        first, *lines = head.split(b"\n")
        method, _, path = first.decode("latin-1").partition(" ")
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        try:
            request = application.client.build_request(method, path, headers=headers, content=body)
        except (httpx.InvalidURL, ValueError):
            return False  # it cannot be sent
        answered = application.run(application.client.send(request))
        assert answered.status_code < 500 or answered.status_code == 504, answered.text
        return answered.status_code < 400

    return take


def calls_seeds() -> list[bytes]:
    batch = {"input_file_id": "FILE", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    traced = b"\ntraceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    boundary = "multipart/form-data; boundary=b"
    kept = {"purpose": b"batch", "expires_after[anchor]": b"created_at", "expires_after[seconds]": b"3600"}
    return [
        _call("POST /v1/chat/completions", json.dumps(_PLAIN).encode(), more=b"\nidempotency-key: once" + traced),
        _call("POST /v1/batches", json.dumps(batch | {"metadata": {"a": "b"}}).encode(), more=b"\nidempotency-key: 1"),
        _call("POST /v1/files", _form(purpose=b"batch", file=b"{}"), boundary),
        _call("POST /v1/files", _form(**kept, file=b""), boundary),
        _call("POST /v1/files", more=b"\ncontent-length: " + b"9" * 5_000),
        *(_call(line) for line in ("GET /v1/files?limit=2&order=asc&purpose=batch", "GET /v1/batches?limit=1&after=x")),
        *(_call(line) for line in ("GET /v1/files/FILE/content", "GET /v1/batches/batch_1", "DELETE /v1/files/file-1")),
        *(_call(line) for line in ("POST /v1/batches/batch_1/cancel", "GET /v1/models", "GET /v1/models/auto")),
    ]


def _call(line: str, body: bytes = b"", kind: str = _JSON, more: bytes = b"") -> bytes:
    return f"{line}\nauthorization: Bearer KEY\ncontent-type: {kind}".encode() + more + b"\n\n" + body


def _form(**fields: bytes) -> bytes:
    def part(name: str, value: bytes) -> bytes:
        file = '; filename="rows.jsonl"' if name == "file" else ""
        return f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value + b"\r\n"

    return b"".join(part(name, value) for name, value in fields.items()) + b"--b--\r\n"
