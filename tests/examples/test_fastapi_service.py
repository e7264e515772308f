"""The example of a service: asking, streaming, feedback and leaving, over HTTP and a real broker."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from forebay_schemas.records import Chunk, Control, Feedback, Reply, ReplyError, Request, Verdict

from tests.builders import make_reply
from tests.waiting import eventually

from .stand_in import StandIn, echo

pytest.importorskip("fastapi.sse", reason="FastAPI 0.135 or later is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

pytestmark = pytest.mark.stack

FOLDER = Path(__file__).parents[2] / "examples" / "fastapi_service"


@pytest.fixture
def service(settings: Path) -> Iterator[httpx.Client]:
    """The service as uvicorn runs it, and a client of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(FOLDER), "service:app", "--port", str(port)]
    process = subprocess.Popen(command, env=os.environ | {"FOREBAY_CONFIG": str(settings)})
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            eventually(lambda: process.poll() is not None or _listens(port), "the service listens", poll_s=0.05)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def in_pieces(request: Request) -> Sequence[Reply | Chunk]:
    """The question again, word by word."""
    words = (request.messages[-1].content or "").split(" ")
    pieces = [word if number == 0 else f" {word}" for number, word in enumerate(words)]
    of_request = {"request_id": request.request_id, "tenant": request.tenant, "attempt": 1}
    chunks = [Chunk(index=index, text=piece, **of_request) for index, piece in enumerate(pieces)]
    return [*chunks, *echo(request)]


def unfinished(request: Request) -> Sequence[Reply | Chunk]:
    """A first piece, and nothing more."""
    return in_pieces(request)[:1]


def failing(request: Request) -> Sequence[Reply | Chunk]:
    error = ReplyError(code="engine_failed", message="no luck", retryable=True)
    return [make_reply(request_id=request.request_id, tenant=request.tenant, text="", error=error)]


def events(response: httpx.Response) -> list[tuple[str, object]]:
    """Kind and data of the events that came, comments left out."""
    found = []
    for block in response.text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("event", "message"), json.loads(fields["data"])))
    return found


def test_it_answers_and_passes_feedback_on(service: httpx.Client, pipeline: StandIn) -> None:
    answer = service.post("/answers", json={"question": "How do I reset my password?", "user": "ada"})
    assert answer.status_code == 200
    assert answer.json()["text"] == "How do I reset my password?"
    assert answer.json()["model"] == "llama-3.1-8b"
    request_id = answer.json()["request_id"]
    assert [(request.request_id, request.user) for request in pipeline.read(Request)] == [(request_id, "ada")]

    thumb = {"verdict": "down", "reason": "outdated", "user": "ada"}
    assert service.post(f"/answers/{request_id}/feedback", json=thumb).status_code == 202
    [feedback] = eventually(lambda: pipeline.read(Feedback), "the feedback is read")
    assert (feedback.request_id, feedback.verdict, feedback.reason) == (request_id, Verdict.DOWN, "outdated")


def test_what_goes_wrong_is_said_by_the_status(service: httpx.Client, pipeline: StandIn) -> None:
    assert service.post("/answers", json={"question": ""}).status_code == 422
    assert pipeline.read(Request) == []
    pipeline.answer = failing
    failed = service.post("/answers", json={"question": "Hello?"})
    assert failed.status_code == 502
    assert "no luck" in failed.json()["error"]


def test_it_streams_the_answer_and_says_where_it_came_from(service: httpx.Client, pipeline: StandIn) -> None:
    pipeline.answer = in_pieces
    found = events(service.get("/answers/stream", params={"question": "one two three"}))
    *pieces, (kind, answer) = found
    assert {kind for kind, _ in pieces} == {"message"}
    assert "".join(str(piece) for _, piece in pieces) == "one two three"
    assert kind == "answer"
    assert isinstance(answer, dict)
    assert answer["text"] == "one two three"

    pipeline.answer = failing
    [(kind, said)] = events(service.get("/answers/stream", params={"question": "Hello?"}))
    assert kind == "error"
    assert "no luck" in str(said)


def test_a_reader_who_goes_away_cancels_the_generation(service: httpx.Client, pipeline: StandIn) -> None:
    pipeline.answer = unfinished
    with service.stream("GET", "/answers/stream", params={"question": "one two three"}) as response:
        assert next(line for line in response.iter_lines() if line.startswith("data: ")) == 'data: "one"'
    [command] = eventually(lambda: pipeline.read(Control), "the request is cancelled")
    assert command.arguments["request_id"] == pipeline.read(Request)[0].request_id
