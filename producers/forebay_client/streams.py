"""An answer as it is written: pieces of text, in order, and the reply at the end.

Pieces and reply come on different topics, so the reply may overtake the last pieces: what is missing then is taken from
the reply, and the pieces of a stream that ends without an error always make up the text of its reply.

A generation that begins anew (its worker died, or its answer was not good enough and a larger tier was asked) writes
its text again from the beginning. While it says what was said before, nobody notices. Where it says something else, the
stream raises ``StreamRestarted`` once; whoever goes on iterating gets the new text from its beginning.
"""

import asyncio
import contextlib
import queue
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Self

from forebay_schemas.records import Chunk, Reply

from .core import Core, OnChunk, Ticket
from .errors import StreamRestarted, raise_for_error

Arrival = Chunk | Future[Reply]
"""What comes for a stream: a piece, or the reply (or the reason why none will come) as a future that is done."""


class Assembly:
    """Puts the pieces of one answer in order: what is known of its text, and what its reader has of it.

    Attributes:
        reply: of the request; None before it came.
        ended: nothing comes any more.
    """

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self.ended = False
        self._attempt = 0
        self._next = 0
        self._early: dict[int, str] = {}
        self._known = ""
        self._given = ""

    def receive(self, arrival: Arrival) -> None:
        """Take in what came; pieces in any order, repeated, or of an attempt that no longer counts.

        Raises:
            ForebayError: why there is no answer; as ``Client.ask`` does.
        """
        if isinstance(arrival, Chunk):
            self._add(arrival)
            return
        self.end()
        if not arrival.cancelled():  # else the stream was closed from another thread
            self.reply = arrival.result()
            self._known = raise_for_error(self.reply).text

    def end(self) -> None:
        """Expect nothing more."""
        self.ended = True
        self._known = self._given

    def take(self) -> str:
        """The text that has become known since the last call; empty where there is none.

        Raises:
            StreamRestarted: the answer is not the one that was given so far; the next call gives it from its beginning.
        """
        if self._known.startswith(self._given):
            piece = self._known[len(self._given) :]
            self._given = self._known
            return piece
        if self._given.startswith(self._known) and not self.ended:
            return ""  # a new attempt that has said the same so far
        self._given = ""
        raise StreamRestarted

    def _add(self, chunk: Chunk) -> None:
        if chunk.attempt < self._attempt:
            return
        if chunk.attempt > self._attempt:
            self._attempt, self._next, self._known = chunk.attempt, 0, ""
            self._early.clear()
        if chunk.index >= self._next:
            self._early[chunk.index] = chunk.text
        while self._next in self._early:
            self._known += self._early.pop(self._next)
            self._next += 1


class _Stream:
    """What the streams of both clients share: their request, its reply, and leaving early."""

    def __init__(self, ticket: Ticket | None, withdraw: Callable[[Ticket], None]) -> None:
        self._ticket = ticket
        self._withdraw = withdraw
        self._assembly = Assembly()

    @property
    def request_id(self) -> str:
        """Of the request, once it is published."""
        if self._ticket is None:
            raise RuntimeError("the request is not published yet; begin to iterate first")
        return self._ticket.request_id

    @property
    def reply(self) -> Reply:
        """The reply, once the stream has ended with one: the whole text, where it came from and what it cost."""
        if self._assembly.reply is None:
            raise RuntimeError("the reply has not come; iterate to the end of the stream first")
        return self._assembly.reply

    def _leave(self) -> None:
        if self._ticket is not None and not self._assembly.ended:
            self._assembly.end()
            self._withdraw(self._ticket)

    def __del__(self) -> None:
        self._leave()


class Stream(_Stream):
    """What ``Client.stream`` returns: an iterator of text that ends when the reply has come.

    Leaving it early cancels the request: leaving its ``with``, ``close``, or letting go of it.
    """

    def __init__(self, core: Core, ticket: Ticket, arrivals: queue.SimpleQueue[Arrival]) -> None:
        super().__init__(ticket, core.withdraw)
        self._core = core
        self._arrivals = arrivals
        ticket.future.add_done_callback(arrivals.put)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        """The next piece, never empty.

        Raises:
            StreamRestarted: the answer began anew, with another text; the next piece is the new one's beginning.
            BrokerUnavailable, ReplyTimeout, DeadlineExceeded, RequestCancelled, RequestFailed, ClientClosed: there is
                no answer, or none that is complete; as ``Client.ask``.
        """
        self._core.refuse_on_reader()
        while not (piece := self._assembly.take()):
            if self._assembly.ended:
                raise StopIteration
            self._assembly.receive(self._arrivals.get())
        return piece

    def close(self) -> None:
        """End the stream; a request that has no reply yet is cancelled."""
        self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncStream(_Stream):
    """What ``AsyncClient.stream`` returns: an asynchronous iterator of text that ends when the reply has come.

    The request is published when iteration begins, or at the ``async with``. Leaving early cancels it, and so does
    cancelling the task that waits for the next piece.
    """

    def __init__(self, begin: Callable[[OnChunk], Awaitable[Ticket]], withdraw: Callable[[Ticket], None]) -> None:
        super().__init__(None, withdraw)
        self._begin = begin
        self._arrivals: asyncio.Queue[Arrival] = asyncio.Queue()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """As ``Stream.__next__``."""
        if self._ticket is None:
            await self._publish()
        while not (piece := self._assembly.take()):
            if self._assembly.ended:
                raise StopAsyncIteration
            try:
                arrival = await self._arrivals.get()
            except asyncio.CancelledError:
                self._leave()
                raise
            self._assembly.receive(arrival)
        return piece

    async def aclose(self) -> None:
        """End the stream; a request that has no reply yet is cancelled."""
        self._leave()

    async def __aenter__(self) -> Self:
        await self._publish()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _publish(self) -> None:
        loop, put = asyncio.get_running_loop(), self._arrivals.put_nowait

        def bring(arrival: Arrival) -> None:  # without a reference to the stream, which may be let go of
            with contextlib.suppress(RuntimeError):  # the loop has ended, and who waited with it
                loop.call_soon_threadsafe(put, arrival)

        self._ticket = await self._begin(bring)
        self._ticket.future.add_done_callback(bring)
