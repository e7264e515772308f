"""Chat completions: one call, from its body to its answer, whole or streamed."""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from forebay_client import Reply, RequestFailed, StreamRestarted
from forebay_client.openai_format import completion
from forebay_client.requests import TRACEPARENT, RequestFields
from forebay_schemas.errors import ForebayError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from . import completions
from .asking import request_fields
from .calls import Call
from .chat_request import ChatRequest
from .connection import while_connected
from .errors import ApiError, api_error
from .gate import Caller
from .repeats import HEADER, Claim
from .responses import CHAT
from .service import Service, caller_of, service_of

_NOBODY = 499
"""The status that metrics show for a caller who has left."""

router = APIRouter()


@router.post("/v1/chat/completions", responses=CHAT, response_class=JSONResponse)
async def create_chat_completion(
    body: ChatRequest,
    request: Request,
    service: Annotated[Service, Depends(service_of)],
    caller: Annotated[Caller, Depends(caller_of)],
) -> Response:
    """Answer a conversation, from a cache or by the cheapest model that will do."""
    try:
        call = await _begun(body, request, service, caller)
    except ClientDisconnect:
        return Response(status_code=_NOBODY)
    try:
        if body.stream:
            first = await while_connected(request, call.next_piece())
            return _streamed(call, first, body, service)
        reply = await while_connected(request, call.reply())
    except ClientDisconnect:
        await _left(call, service)
        return Response(status_code=_NOBODY)
    except ForebayError as error:
        raise _failed(call, error) from None
    return JSONResponse(completion(reply, body.model), headers=completions.headers(reply))


async def _begun(body: ChatRequest, request: Request, service: Service, caller: Caller) -> Call:
    """The call's request, published; or the answer of the call that it repeats.

    Raises:
        ApiError: it cannot be asked.
        ClientDisconnect: the caller left while an equal call was answered.
    """
    service.ladder.tier(body.model)  # that there is no such model is a status of its own
    fields = RequestFields(**request_fields(body, service.config))
    traceparent = request.headers.get("traceparent", "")
    if TRACEPARENT.fullmatch(traceparent):  # W3C: what is none is passed over
        fields["traceparent"] = traceparent
    timeout_s = body.forebay.deadline_s or service.config.gateway.timeout_s
    claim: Claim | Reply | None = None
    if (key := request.headers.get(HEADER)) is not None:
        claiming = service.repeats.claim(caller.tenant, key, await request.body())
        claim = await while_connected(request, claiming)
    if isinstance(claim, Reply):
        return Call.answered(claim, service.client)

    async def settle(reply: Reply | None) -> None:
        if claim is not None:
            await claim.settle(reply)
        if caller.key is not None and reply is not None:
            await service.limits.settle(caller.key, reply, datetime.now(UTC))

    try:
        return service.calls.start(
            f"chatcmpl-{uuid.uuid4().hex}",
            caller.tenant,
            fields,
            timeout_s,
            stream=bool(body.stream) and not service.config.gateway.hold_streams,
            kept=claim is not None,
            on_end=settle,
        )
    except ApiError:  # whoever repeats the call may begin it
        await settle(None)
        raise


def _streamed(call: Call, first: str | None, body: ChatRequest, service: Service) -> Response:
    include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    chunks = completions.Chunks(call.request_id, int(time.time()), body.model, include_usage)
    told = False

    async def events() -> AsyncIterator[bytes]:
        nonlocal told
        yield chunks.begin()
        try:
            piece = first
            while piece is not None:
                yield chunks.text(piece)
                piece = await call.next_piece()
            yield chunks.end(await call.reply())
        except StreamRestarted:
            service.metrics.restarted.inc()
            yield completions.event(_RESTARTED.body)
        except ForebayError as error:
            yield completions.event(api_error(error).body)
        told = True

    async def on_close() -> None:
        if not told:
            await _left(call, service)

    return _Events(events(), on_close, completions.request_headers(call.request_id))


_RESTARTED = ApiError(
    500,
    "a larger model began the answer anew, and what was streamed counts no longer; send the call again: the new answer"
    " is being kept",
    code="stream_restarted",
)


class _Events(StreamingResponse):
    """Server-sent events, with word of their end, whoever ends them."""

    def __init__(
        self, events: AsyncIterator[bytes], on_close: Callable[[], Awaitable[None]], headers: dict[str, str]
    ) -> None:
        # A proxy that gathers what it passes on would make a stream pointless.
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **headers}
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._on_close()


async def _left(call: Call, service: Service) -> None:
    service.metrics.left.labels("kept" if call.kept else "cancelled").inc()
    if not call.kept:
        await call.take_back()


def _failed(call: Call, error: ForebayError) -> ApiError:
    failed = api_error(error)
    told = (
        completions.headers(error.reply)
        if isinstance(error, RequestFailed)
        else completions.request_headers(call.request_id)
    )
    failed.headers = {**told, **(failed.headers or {})}
    return failed
