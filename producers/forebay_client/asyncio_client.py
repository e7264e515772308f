"""The client for asyncio: the same core, with its waiting moved off the event loop."""

import asyncio
import contextvars
import functools
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import Reply

from .client import FEED_POLL_S, OnFailure, OnReply, call_back
from .core import Core, OnChunk, Ticket
from .errors import BrokerUnavailable, raise_for_error
from .feedback import FeedbackFields
from .invalidation import Invalidated, InvalidationFields
from .requests import Question, RequestFields
from .streams import AsyncStream

T = TypeVar("T")


class AsyncClient:
    """``Client`` for coroutines: the same arguments, results and errors. Use it within one event loop.

    A task that is cancelled while it asks, or waits for a piece of a stream, cancels its request too.
    """

    __slots__ = ("_core", "_sender")

    def __init__(
        self, tenant: str | None = None, *, config: Config | None = None, reply_topic: str | None = None
    ) -> None:
        self._core = Core(config or load_config(), tenant, reply_topic)
        # Publishing waits when it first looks for its partition and when the queue is full. A thread of its own
        # keeps that off the event loop and off the executor that the service uses for itself.
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="forebay-publish")

    @property
    def tenant(self) -> str | None:
        """Whose requests these are, unless a request says otherwise."""
        return self._core.tenant

    @property
    def broken(self) -> bool:
        """Whether no reply can come any more, though nobody closed it: close it, and make a new one."""
        return self._core.broken

    async def publish(
        self,
        question: Question | None = None,
        *,
        on_reply: OnReply | None = None,
        on_failure: OnFailure | None = None,
        **fields: Unpack[RequestFields],
    ) -> str:
        """As ``Client.publish``; the callbacks are called in the event loop."""
        if on_reply is None and on_failure is None:
            return await self._off_loop(self._core.publish, question, fields)
        ticket = await self._off_loop(self._core.submit, question, fields)
        call_back(ticket, _in_loop(on_reply), _in_loop(on_failure))
        return ticket.request_id

    async def ask(
        self, question: Question | None = None, *, timeout_s: float = 30.0, **fields: Unpack[RequestFields]
    ) -> Reply:
        """As ``Client.ask``."""
        ticket = await self._submit(question, fields, timeout_s)
        try:
            return raise_for_error(await asyncio.wrap_future(ticket.future))
        except asyncio.CancelledError:
            self._core.withdraw(ticket)
            raise

    def stream(
        self, question: Question | None = None, *, timeout_s: float = 30.0, **fields: Unpack[RequestFields]
    ) -> AsyncStream:
        """As ``Client.stream``; it is published when iteration begins, or with ``async with``."""
        begin = functools.partial(self._submit, question, {**fields, "stream": True}, timeout_s)
        return AsyncStream(begin, self._core.withdraw)

    async def cancel(self, request_id: str, *, tenant: str | None = None) -> None:
        """As ``Client.cancel``."""
        self._core.cancel(request_id, tenant)

    async def feedback(self, request_id: str, verdict: str, **fields: Unpack[FeedbackFields]) -> None:
        """As ``Client.feedback``."""
        await self._off_loop(self._core.feedback, request_id, verdict, fields)

    async def invalidate(
        self, *, timeout_s: float = 30.0, issued_by: str = "client", **fields: Unpack[InvalidationFields]
    ) -> Invalidated:
        """As ``Client.invalidate``. Cancelling the task takes nothing back."""
        return await asyncio.to_thread(self._core.invalidate, fields, issued_by, timeout_s)

    async def publish_invalidation(self, *, issued_by: str = "client", **fields: Unpack[InvalidationFields]) -> str:
        """As ``Client.publish_invalidation``."""
        return self._core.publish_invalidation(fields, issued_by)

    def replies(self, group: str) -> AsyncGenerator[Reply, None]:
        """As ``Client.replies``. Close a loop that is left early: ``async with contextlib.aclosing(...)``."""
        return self._iterate(group, from_beginning=True)

    def watch(self, *, from_beginning: bool = False) -> AsyncGenerator[Reply, None]:
        """As ``Client.watch``. Close a loop that is left early: ``async with contextlib.aclosing(...)``."""
        return self._iterate(None, from_beginning)

    async def wait(self, timeout_s: float | None = None) -> int:
        """As ``Client.wait``."""
        return await asyncio.to_thread(self._core.wait, timeout_s)

    async def flush(self, timeout_s: float = 30.0) -> None:
        """As ``Client.flush``."""
        await self._off_loop(self._core.flush, timeout_s)

    async def close(self, timeout_s: float = 10.0) -> None:
        """As ``Client.close``."""
        try:
            await asyncio.to_thread(self._core.close, timeout_s)
        finally:
            self._sender.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except ForebayError:
            if error is None:
                raise

    async def _iterate(self, group: str | None, from_beginning: bool) -> AsyncGenerator[Reply, None]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="forebay-replies") as reader:
            feed = await loop.run_in_executor(reader, self._core.open_feed, group, from_beginning)
            try:
                while not self._core.closed:
                    reply = await loop.run_in_executor(reader, feed.poll, FEED_POLL_S)
                    if reply is not None:
                        yield reply
            finally:
                self._core.close_feed(feed)

    async def _submit(
        self, question: Question | None, fields: Any, timeout_s: float, on_chunk: OnChunk | None = None
    ) -> Ticket:
        self._core.check_usable()
        submit = _in_context(self._core.submit)
        submitting = self._sender.submit(submit, question, fields, timeout_s, time.monotonic(), on_chunk)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(submitting)
        except asyncio.CancelledError:
            submitting.add_done_callback(self._withdraw_submitted)  # what its thread has begun, it ends
            raise
        except TimeoutError:
            submitting.add_done_callback(self._withdraw_submitted)
            raise BrokerUnavailable(
                f"nothing could be published within {timeout_s:.4g} s; check that the brokers run"
            ) from None

    def _withdraw_submitted(self, submitted: Future[Ticket]) -> None:
        if not submitted.cancelled() and submitted.exception() is None:
            self._core.withdraw(submitted.result())

    async def _off_loop(self, function: Callable[..., T], *args: Any) -> T:
        self._core.check_usable()  # a closed executor would say something else
        return await asyncio.get_running_loop().run_in_executor(self._sender, _in_context(function), *args)


def _in_context(function: Callable[..., T]) -> Callable[..., T]:
    """The function as if it were called here, for another thread: a trace goes on from the caller's span."""
    return functools.partial(contextvars.copy_context().run, function)


def _in_loop(callback: Callable[..., object] | None) -> Callable[..., object] | None:
    if callback is None:
        return None
    loop = asyncio.get_running_loop()
    return lambda *args: loop.call_soon_threadsafe(callback, *args)
