"""A request in the pipeline for a call by HTTP, which is followed to its end also when the caller has left.

A caller who leaves has the request taken back; what was spent on it until then is known from its reply, and is charged.
A call that may be repeated (it has an Idempotency-Key) goes on instead, so that the repeat finds its answer.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from forebay_client import AsyncClient, ClientClosed, Reply, RequestFailed, StreamRestarted
from forebay_client.requests import RequestFields
from forebay_schemas.errors import ForebayError
from forebay_schemas.metrics import GatewayMetrics

from .errors import overloaded

OnEnd = Callable[[Reply | None], Awaitable[None]]
"""Told how a request ended: its reply, which may be an error, or None where none came."""

_log = logging.getLogger(__name__)


class Call:
    """One request.

    Attributes:
        request_id: by which feedback names it.
        kept: whether it goes on without its caller.
    """

    def __init__(self, request_id: str, tenant: str, client: AsyncClient, kept: bool) -> None:
        self.request_id = request_id
        self.kept = kept
        self._tenant = tenant
        self._client = client
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._reply.add_done_callback(_looked_at)
        self._restarted = False

    @classmethod
    def answered(cls, reply: Reply, client: AsyncClient) -> "Call":
        """One whose answer is known already."""
        call = cls(reply.request_id, reply.tenant, client, kept=True)
        call._reply.set_result(reply)
        call._give_whole(reply)
        call._pieces.put_nowait(None)
        return call

    async def reply(self) -> Reply:
        """The answer.

        Raises:
            ForebayError: why there is none.
        """
        return await asyncio.shield(self._reply)

    async def next_piece(self) -> str | None:
        """The next piece of a streamed answer; None after the last.

        Raises:
            StreamRestarted: what was given counts no longer; no further piece comes.
            ForebayError: why there is no answer.
        """
        piece = await self._pieces.get()
        if piece is None:
            if self._restarted:
                raise StreamRestarted
            await self.reply()
        return piece

    async def take_back(self) -> None:
        """Nobody waits for it any more."""
        if not self._reply.done():
            with contextlib.suppress(ForebayError):  # it goes on then, until its deadline
                await self._client.cancel(self.request_id, tenant=self._tenant)

    async def follow(self, fields: RequestFields, timeout_s: float, stream: bool, on_end: OnEnd) -> None:
        """Publish the request, and bring what comes of it."""
        reply = None
        try:
            answered = self._streamed if stream else self._asked
            reply = await answered(fields, timeout_s)
            self._reply.set_result(reply)
        except ForebayError as error:
            reply = error.reply if isinstance(error, RequestFailed) else None
            self._reply.set_exception(error)
        except Exception:
            self._reply.set_exception(ForebayError("a defect of the gateway met this call; its log says more"))
            raise
        finally:
            if not self._reply.done():
                self._reply.set_exception(ClientClosed("the gateway is stopping; send the call again"))
            self._pieces.put_nowait(None)
            await on_end(reply)

    def _give_whole(self, reply: Reply) -> None:
        if reply.text:
            self._pieces.put_nowait(reply.text)

    async def _asked(self, fields: RequestFields, timeout_s: float) -> Reply:
        reply = await self._client.ask(timeout_s=timeout_s, **fields)
        self._give_whole(reply)
        return reply

    async def _streamed(self, fields: RequestFields, timeout_s: float) -> Reply:
        async with self._client.stream(timeout_s=timeout_s, **fields) as pieces:
            while True:
                try:
                    async for piece in pieces:
                        if not self._restarted:
                            self._pieces.put_nowait(piece)
                    return pieces.reply
                except StreamRestarted:  # it goes on, so that whoever asks again finds the answer kept
                    self._restarted = True
                    self._pieces.put_nowait(None)


class Calls:
    """The requests that this process follows.

    Args:
        most: so many at a time, those whose caller has left included.
    """

    def __init__(self, client: AsyncClient, most: int, metrics: GatewayMetrics) -> None:
        self._client = client
        self._most = most
        self._metrics = metrics
        self._following: dict[asyncio.Task[None], str] = {}
        """With the tenant of each."""

    def start(
        self,
        request_id: str,
        tenant: str,
        fields: RequestFields,
        timeout_s: float,
        *,
        stream: bool,
        kept: bool,
        on_end: OnEnd,
    ) -> Call:
        """Begin a call.

        Args:
            kept: whether it goes on without its caller.

        Raises:
            ApiError: there are as many as may be.
        """
        if len(self._following) >= self._most:
            self._metrics.refused.labels("busy").inc()
            raise overloaded(self._most)
        call = Call(request_id, tenant, self._client, kept)
        named = RequestFields(**{**fields, "request_id": request_id, "tenant": tenant})
        task = asyncio.create_task(call.follow(named, timeout_s, stream, on_end))
        self._following[task] = tenant
        task.add_done_callback(self._ended)
        return call

    def inflight(self, tenant: str | None) -> int:
        """How many of a tenant's, or of all, are not answered yet."""
        return sum(tenant in (None, whose) for whose in self._following.values())

    async def close(self) -> None:
        """Take back what is left, and wait until it has ended."""
        for task in list(self._following):
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._following.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a call ended in a defect", exc_info=error)


def _looked_at(future: asyncio.Future[Reply]) -> None:
    """An error that nobody awaits any more is no defect."""
    if not future.cancelled():
        future.exception()
