"""An endpoint's answers and failures, told in the worker's words; it is a server in this process that does as told."""

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any

import pytest
import pytest_asyncio
from forebay_schemas.records import Message, Usage
from forebay_schemas.tiers import EndpointConfig
from forebay_workers.backends import CutShort, GenerationError, GenerationRequest, Unavailable
from forebay_workers.backends import endpoint as calls
from forebay_workers.backends.openai import OpenAIBackend
from forebay_workers.backends.pool import Pool

from ..builders import system, user
from .doubles import to_generate

pytest.importorskip("openai")

KEY = "sk-very-secret"
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


class Cut(Exception):
    """The connection ends here."""


class Endpoint:
    """Answers each call with the next of its replies, and the last one for ever."""

    def __init__(self) -> None:
        self.replies: list[Callable[[asyncio.StreamWriter], Any]] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.answering = 0
        self.most_at_once = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def close(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                self.headers.append(headers)
                self.bodies.append(json.loads(await reader.readexactly(int(headers["content-length"]))))
                self.answering += 1
                self.most_at_once = max(self.most_at_once, self.answering)
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                try:
                    await reply(writer)
                    await writer.drain()
                finally:
                    self.answering -= 1
        except (Cut, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def says(status: int, body: Any, headers: str = "") -> Callable[[asyncio.StreamWriter], Any]:
    """A reply with a status and a JSON body; ``headers`` are whole lines."""
    text = json.dumps(body).encode()

    async def reply(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n{headers}\r\n"
        writer.write(head.encode() + text)

    return reply


def refuses(status: int, message: str, headers: str = "", **fields: Any) -> Callable[[asyncio.StreamWriter], Any]:
    return says(status, {"error": {"message": message, "type": "x", **fields}}, headers)


def answers(text: str | None = "Paris.", **fields: Any) -> Callable[[asyncio.StreamWriter], Any]:
    """A whole completion."""
    usage, choice = fields.pop("usage", USAGE), {"finish_reason": "stop", "logprobs": None, **fields.pop("choice", {})}
    message = {"role": "assistant", "content": text, **fields}
    return says(
        200, {"id": "1", "object": "x", "choices": [{"index": 0, "message": message, **choice}], "usage": usage}
    )


def streams(*deltas: dict[str, Any], finish: str | None = "stop", cut: bool = False, **fields: Any) -> Any:
    """A completion piece by piece."""
    chunks: list[Any] = [{"choices": [{"index": 0, "delta": delta, **fields}]} for delta in deltas]
    if not cut:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        chunks.append({"choices": [], "usage": USAGE})

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for data in [*map(json.dumps, chunks), *([] if cut else ["[DONE]"])]:
            event = f"data: {data}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
        if cut:
            raise Cut
        writer.write(b"0\r\n\r\n")

    return reply


async def never(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def stalls_after(*deltas: dict[str, Any], **fields: Any) -> Callable[[asyncio.StreamWriter], Any]:
    """The beginning of a streamed completion, and nothing further."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(Cut):
            await streams(*deltas, cut=True, **fields)(writer)
        await never(writer)

    return reply


async def hangs_up(_: asyncio.StreamWriter) -> None:
    raise Cut


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    await endpoint.open()
    yield endpoint
    await endpoint.close()


@pytest_asyncio.fixture
async def connect(endpoint: Endpoint) -> AsyncIterator[Callable[..., Any]]:
    """Makes a started backend of the endpoint, with settings."""
    made: list[OpenAIBackend] = []

    async def make(**settings: Any) -> OpenAIBackend:
        config = EndpointConfig(**{"url": endpoint.url, "api_key": KEY, "max_retries": 0, **settings})
        made.append(OpenAIBackend("hosted", config))
        await made[-1].start()
        return made[-1]

    yield make
    for backend in made:
        await backend.stop()


def asked(*messages: Message, **fields: Any) -> GenerationRequest:
    return to_generate(*(messages or [user("Capital of France?")]), **fields)


async def test_a_request_is_asked_as_it_is_and_answered_with_usage_and_confidence(
    endpoint: Endpoint, connect: Any
) -> None:
    usage = {**USAGE, "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4}}
    tokens = [{"token": "Paris", "logprob": -0.1, "top_logprobs": []}, {"token": ".", "logprob": -0.3}]
    endpoint.replies = [answers(usage=usage, choice={"logprobs": {"content": tokens}})]
    backend = await connect(model="provider/model")
    form = {"type": "json_object"}
    tools = [{"type": "function", "function": {"name": "weather"}}]
    turns = [system("Be kind."), Message(role="assistant", tool_calls='[{"id": "1"}]'), user("So?", name="Ann")]
    turns.insert(2, Message(role="tool", content="5", tool_call_id="1"))
    answer = await backend.generate(asked(*turns, stop=["END"], seed=3, tools=tools, response_format=form))
    assert endpoint.bodies == [
        {
            "model": "provider/model",
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                {"role": "tool", "content": "5", "tool_call_id": "1"},
                {"role": "user", "content": "So?", "name": "Ann"},
            ],
            "max_tokens": 9,
            "temperature": 0.0,
            "top_p": 1.0,
            "stop": ["END"],
            "seed": 3,
            "tools": tools,
            "response_format": form,
            "logprobs": True,
        }
    ]
    assert endpoint.headers[0]["authorization"] == f"bearer {KEY}"
    assert (answer.text, answer.finish_reason, answer.model_id) == ("Paris.", "stop", "hosted")
    assert answer.confidence == pytest.approx(0.8187, abs=1e-4)
    used = answer.usage
    assert (used.prompt_tokens, used.completion_tokens) == (12, 3)
    assert (used.cached_prompt_tokens, used.cache_write_prompt_tokens) == (8, 4)


async def test_a_required_call_is_asked_for(endpoint: Endpoint, connect: Any) -> None:
    endpoint.replies = [answers()]
    tools = [{"type": "function", "function": {"name": "weather"}}]
    await (await connect()).generate(asked(tools=tools, must_call=True))
    assert endpoint.bodies[0]["tool_choice"] == "required"


async def test_an_answer_is_told_piece_by_piece(endpoint: Endpoint, connect: Any) -> None:
    endpoint.replies = [streams({"role": "assistant", "content": ""}, {"content": "Pa"}, {"content": "ris."})]
    pieces: list[str] = []
    answer = await (await connect()).generate(asked(), pieces.append)
    assert pieces == ["Pa", "ris."]
    assert (answer.text, answer.finish_reason, answer.usage.completion_tokens) == ("Paris.", "stop", 3)
    assert answer.first_token_ms is not None
    assert endpoint.bodies[0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("fields", "used"),
    [
        ({}, Usage(completion_tokens=2)),
        ({"logprobs": {"content": [{"token": "a", "logprob": -1.0}] * 3}}, Usage(completion_tokens=6)),
    ],
    ids=["pieces", "tokens"],
)
async def test_a_stream_that_is_cancelled_tells_what_came_of_it(
    endpoint: Endpoint, connect: Any, fields: dict[str, Any], used: Usage
) -> None:
    endpoint.replies = [stalls_after({"content": "Pa"}, {"content": "ris."}, **fields)]
    pieces: list[str] = []
    both = asyncio.Event()

    def on_text(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 2:
            both.set()

    generation = asyncio.create_task((await connect()).generate(asked(), on_text))
    await both.wait()
    generation.cancel()
    with pytest.raises(CutShort) as cut:
        await generation
    assert cut.value.generation.usage == used
    assert cut.value.generation.model_id == "hosted"


async def test_a_stream_that_takes_too_long_is_a_failure_of_its_endpoint(endpoint: Endpoint, connect: Any) -> None:
    endpoint.replies = [stalls_after({"content": "Pa"})]
    backend = await connect(timeout_s=0.2, max_retries=0)
    with pytest.raises(Unavailable, match=r"within 0\.2 s"):
        await backend.generate(asked(), lambda _: None)


async def test_cached_tokens_that_are_counted_beside_the_prompts_are_added_to_them(
    endpoint: Endpoint, connect: Any
) -> None:
    usage = {**USAGE, "prompt_tokens_details": {"cached_tokens": 800}, "cache_creation_input_tokens": 100}
    endpoint.replies = [answers(usage=usage)]
    used = (await (await connect()).generate(asked())).usage
    assert (used.prompt_tokens, used.cached_prompt_tokens, used.cache_write_prompt_tokens) == (912, 800, 100)


async def test_tool_calls_stand_beside_what_is_said(endpoint: Endpoint, connect: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
    first = {"index": 0, "id": "1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    parts = [{"index": 0, "function": {"arguments": part}} for part in ('{"city":', ' "Köln"}')]
    endpoint.replies = [
        answers("Let me see.", tool_calls=[call], choice={"finish_reason": "tool_calls"}),
        streams({"content": "Let me see."}, *({"tool_calls": [part]} for part in (first, *parts)), finish="tool_calls"),
    ]
    backend = await connect()
    pieces: list[str] = []
    for answer in [await backend.generate(asked()), await backend.generate(asked(), pieces.append)]:
        assert json.loads(answer.tool_calls or "") == [call]
        assert (answer.text, answer.finish_reason) == ("Let me see.", "tool_calls")
    assert pieces == ["Let me see."]


async def test_an_endpoint_without_logprobs_is_asked_for_them_once(endpoint: Endpoint, connect: Any) -> None:
    endpoint.replies = [refuses(400, "logprobs is not supported"), answers()]
    backend = await connect()
    for _ in range(2):
        assert (await backend.generate(asked())).confidence is None
    assert ["logprobs" in body for body in endpoint.bodies] == [True, False, False]


async def test_the_end_of_the_static_messages_is_marked_where_a_provider_wants_it(
    endpoint: Endpoint, connect: Any
) -> None:
    endpoint.replies = [answers()]
    backend = await connect(cache_breakpoints=True)
    await backend.generate(asked(system("Long."), user("Example?"), user("So?"), static_messages=2))
    first, second, third = endpoint.bodies[0]["messages"]
    marked = [{"type": "text", "text": "Example?", "cache_control": {"type": "ephemeral"}}]
    assert (first["content"], second["content"], third["content"]) == ("Long.", marked, "So?")


async def test_the_limit_is_named_as_the_provider_names_it(endpoint: Endpoint, connect: Any) -> None:
    endpoint.replies = [answers()]
    backend = await connect(max_tokens_field="max_completion_tokens")
    await backend.generate(asked(max_tokens=7))
    assert endpoint.bodies[0]["max_completion_tokens"] == 7
    assert "max_tokens" not in endpoint.bodies[0]


async def test_connections_are_used_again(endpoint: Endpoint, connect: Any) -> None:
    endpoint.replies = [answers()]
    backend = await connect()
    for _ in range(3):
        await backend.generate(asked())
    assert endpoint.connections == 1


async def test_no_more_run_at_once_than_the_endpoint_is_meant_to_have(endpoint: Endpoint, connect: Any) -> None:
    endpoint.replies = [answers()]
    backend = await connect(concurrency=2)
    await asyncio.gather(*(backend.generate(asked(generation_id=f"{number}")) for number in range(8)))
    assert endpoint.most_at_once <= 2


@pytest.mark.parametrize("status", [429, 503])
async def test_what_fails_on_the_way_is_tried_again_when_the_endpoint_says(
    endpoint: Endpoint, connect: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(calls, "FIRST_PAUSE_S", 3600.0)
    monkeypatch.setattr(calls, "LONGEST_PAUSE_S", 3600.0)
    after = ["retry-after: 0.01", "retry-after-ms: 10"]
    endpoint.replies = [*(refuses(status, "slow down", f"{header}\r\n") for header in after), answers()]
    async with asyncio.timeout(10):
        answer = await (await connect(max_retries=2)).generate(asked())
    assert answer.text == "Paris."
    assert len(endpoint.bodies) == 3


@pytest.mark.parametrize("as_date", [False, True])
async def test_one_that_says_when_is_not_asked_before_by_any_call(
    endpoint: Endpoint, connect: Any, as_date: bool
) -> None:
    when = formatdate(time.time() + 3600, usegmt=True) if as_date else "1e9"
    endpoint.replies = [refuses(429, "slow down", f"retry-after: {when}\r\n")]
    backend = await connect(max_retries=2)
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"another 3[56]\d\d s"):
            await backend.generate(asked())
    assert (backend.takes, len(endpoint.bodies)) == (0, 1)


@pytest.mark.parametrize(("time_s", "takes"), [(0.0, 0), (3600.0, 64)])
async def test_only_a_call_whose_time_is_over_tells_that_its_endpoint_hangs(
    endpoint: Endpoint, connect: Any, monkeypatch: pytest.MonkeyPatch, time_s: float, takes: int
) -> None:
    monkeypatch.setattr(calls, "SILENT_S", 0.0)
    endpoint.replies = [never]
    pool = Pool(await connect(failures_to_open=1))
    call = asyncio.create_task(pool.generate(asked(until_s=time.monotonic() + time_s)))
    async with asyncio.timeout(10):
        while not endpoint.answering:
            await asyncio.sleep(0.001)
    call.cancel()  # at the end of its time, or because its partition goes to another worker
    with pytest.raises(asyncio.CancelledError):
        await call
    assert pool.takes_for(None) == takes


@pytest.mark.parametrize(
    "reply",
    [
        refuses(429, "slow down"),
        refuses(500, "oops"),
        refuses(503, "starting"),
        refuses(409, "locked"),
        refuses(402, "no credit"),
        hangs_up,
        never,
        says(200, "a proxy's page"),
        says(200, {"error": "none"}),
    ],
)
async def test_an_endpoint_that_does_not_answer_is_unavailable(endpoint: Endpoint, connect: Any, reply: Any) -> None:
    endpoint.replies = [reply]
    backend = await connect(timeout_s=0.5)
    with pytest.raises(Unavailable) as error:
        await backend.generate(asked())
    assert not error.value.unreached


async def test_an_endpoint_that_refuses_connections_never_got_the_request(connect: Any) -> None:
    with socket.socket() as not_listening:
        not_listening.bind(("127.0.0.1", 0))
        port = not_listening.getsockname()[1]
        backend = await connect(url=f"http://127.0.0.1:{port}/v1", failures_to_open=2)
        for problem in ("cannot be reached", "cannot be reached", "left alone"):
            with pytest.raises(Unavailable, match=problem) as error:
                await backend.generate(asked())
            assert error.value.unreached


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_wrong_setting_is_logged_and_no_error_shows_the_key(
    endpoint: Endpoint, connect: Any, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    endpoint.replies = [refuses(status, f"Incorrect API key provided: {KEY}")]
    backend = await connect()
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Unavailable) as error:
        await backend.generate(asked())
    assert "check url, api_key and model" in caplog.text
    assert KEY not in caplog.text
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (refuses(400, f"bad tool, {KEY}"), "engine_refused"),
        (refuses(422, "bad schema"), "engine_refused"),
        (refuses(400, "too long", code="context_length_exceeded"), "context_length_exceeded"),
        (refuses(400, "This model's maximum context length is 1024 tokens."), "context_length_exceeded"),
        (answers("", choice={"finish_reason": "content_filter"}), "engine_refused"),
    ],
)
async def test_what_an_endpoint_refuses_is_an_error_of_the_request(
    endpoint: Endpoint, connect: Any, reply: Any, code: str
) -> None:
    endpoint.replies = [reply]
    backend = await connect(failures_to_open=1)
    for _ in range(2):  # and no reason to leave the endpoint alone
        with pytest.raises(GenerationError) as error:
            await backend.generate(asked())
        assert not isinstance(error.value, Unavailable)
        assert error.value.code == code
        assert KEY not in str(error.value)


@pytest.mark.parametrize(
    "reply",
    [
        streams({"content": "Pa"}, cut=True),
        streams({"content": "Pa"}, finish=None),
    ],
)
async def test_an_answer_that_breaks_off_is_none(endpoint: Endpoint, connect: Any, reply: Any) -> None:
    endpoint.replies = [reply]
    backend = await connect(max_retries=2)
    pieces: list[str] = []
    with pytest.raises(Unavailable):
        await backend.generate(asked(), pieces.append)
    assert pieces == ["Pa"]
    assert len(endpoint.bodies) == 1


async def test_an_endpoint_that_keeps_failing_is_left_alone(endpoint: Endpoint, connect: Any) -> None:
    endpoint.replies = [refuses(500, "oops")]
    backend = await connect(failures_to_open=2, open_s=3600)
    for _ in range(4):
        with pytest.raises(Unavailable):
            await backend.generate(asked())
    assert len(endpoint.bodies) == 2


async def test_one_that_is_tried_again_and_works_answers_as_before(endpoint: Endpoint, connect: Any) -> None:
    endpoint.replies = [refuses(500, "oops"), answers()]
    backend = await connect(failures_to_open=1, open_s=1e-9)
    with pytest.raises(Unavailable):
        await backend.generate(asked())
    for _ in range(2):
        assert (await backend.generate(asked())).text == "Paris."


async def test_a_cancelled_trial_leaves_room_for_the_next(endpoint: Endpoint, connect: Any) -> None:
    endpoint.replies = [refuses(500, "oops"), never, answers()]
    backend = await connect(failures_to_open=1, open_s=1e-9)
    with pytest.raises(Unavailable):
        await backend.generate(asked())
    trial = asyncio.create_task(backend.generate(asked()))
    while not endpoint.answering:
        await asyncio.sleep(0.001)
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    assert (await backend.generate(asked())).text == "Paris."


async def test_without_a_key_none_is_sent_whatever_the_environment_holds(
    endpoint: Endpoint, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "ambient")
    endpoint.replies = [answers()]
    await (await connect(api_key=None)).generate(asked())
    assert "ambient" not in str(endpoint.headers)
    assert "authorization" not in endpoint.headers[0]
