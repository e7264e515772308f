"""A support desk's own HTTP service in front of Forebay: it asks, streams, and passes on what users thought.

    pip install forebay "fastapi>=0.135" uvicorn
    FOREBAY_CONFIG=.forebay/forebay.toml uvicorn --app-dir examples/fastapi_service service:app

    curl localhost:8000/answers --json '{"question": "How do I reset my password?"}'
    curl -N 'localhost:8000/answers/stream?question=Explain+how+refunds+work.'
    curl localhost:8000/answers/REQUEST_ID/feedback --json '{"verdict": "down", "reason": "outdated"}'

The file is that of the stack that `forebay up` starts; FOREBAY_KAFKA__BOOTSTRAP=host:port is enough as well. However
many instances run, each gets the replies to its own requests.
"""

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager
from typing import Annotated, Literal, TypedDict

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from forebay_client import (
    AsyncClient,
    BrokerUnavailable,
    ForebayError,
    InvalidRequest,
    Reply,
    RequestTooLarge,
    StreamRestarted,
)
from pydantic import BaseModel

PATIENCE_S = 20.0
"""Also the request's deadline, so that no tokens are spent on an answer that nobody waits for any more."""


class State(TypedDict):
    client: AsyncClient


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[State, None]:
    async with AsyncClient(tenant="acme") as client:  # one for the process: all its requests share the connections
        yield {"client": client}


app = FastAPI(title="Support desk", lifespan=lifespan)


def shared_client(request: Request) -> AsyncClient:
    return request.state.client


SharedClient = Annotated[AsyncClient, Depends(shared_client)]


class Question(BaseModel):
    question: str
    user: str | None = None


class Answer(BaseModel):
    """An answer, and where it came from."""

    request_id: str
    text: str
    cache_status: str
    model: str | None
    cost_usd: float

    @classmethod
    def of(cls, reply: Reply) -> "Answer":
        return cls(
            request_id=reply.request_id,
            text=reply.text,
            cache_status=reply.cache_status,
            model=reply.model_id,
            cost_usd=reply.cost,
        )


class Thumb(BaseModel):
    verdict: Literal["up", "down"]
    reason: str | None = None
    user: str | None = None


@app.post("/answers")
async def ask(asked: Question, client: SharedClient) -> Answer:
    reply = await client.ask(asked.question, user=asked.user, category="support", timeout_s=PATIENCE_S)
    return Answer.of(reply)


@app.get("/answers/stream", response_class=EventSourceResponse)
async def stream(question: str, client: SharedClient, user: str | None = None) -> AsyncIterable[ServerSentEvent]:
    """Pieces of the answer as messages, then an event `answer`, or `error`.

    A browser that goes away cancels the generation, because leaving the `async with` early does.
    """
    try:
        async with client.stream(question, user=user, category="support", timeout_s=PATIENCE_S) as pieces:
            while True:
                try:
                    async for piece in pieces:
                        yield ServerSentEvent(data=piece)
                    break
                except StreamRestarted:  # a larger model took over: what was shown so far is to be wiped
                    yield ServerSentEvent(event="restart", data="")
            yield ServerSentEvent(event="answer", data=Answer.of(pieces.reply))
    except ForebayError as error:  # too late for a status: the response has begun
        yield ServerSentEvent(event="error", data=str(error))


@app.post("/answers/{request_id}/feedback", status_code=202)
async def feedback(request_id: str, thumb: Thumb, client: SharedClient) -> None:
    await client.feedback(request_id, thumb.verdict, reason=thumb.reason, user=thumb.user)


@app.exception_handler(ForebayError)
async def explain(_: Request, error: ForebayError) -> JSONResponse:
    """The status says whose turn it is: the asker's to change the request, or to try again later."""
    match error:
        case InvalidRequest():
            status = 422
        case RequestTooLarge():
            status = 413
        case TimeoutError():  # ReplyTimeout and DeadlineExceeded
            status = 504
        case BrokerUnavailable():
            status = 503
        case _:  # RequestFailed: the pipeline gave an error in place of an answer
            status = 502
    return JSONResponse({"error": str(error)}, status)
