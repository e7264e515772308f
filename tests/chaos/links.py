"""Links: each part reaches each server by a way of its own, which can be cut and stopped up without the others."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

_RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)
"""Of ``SO_LINGER``: nothing is waited for, and the other end is told by RST."""
_PIECE_BYTES = 65_536
_REFUSED_S = 0.1
"""How long a connection to a server that is not there lasts: clients that are refused pause, others may not."""
_DONE_S = 20


class Link:
    """Passes what comes to ``port`` on to the server on another port of this machine, and back.

    It is the whole network between the two: what it does to one part no other feels.
    """

    def __init__(self, port: int, server_port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.port = port
        self._server_port = server_port
        self._loop = loop
        self._passes = asyncio.Event()
        self._passes.set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._listening: asyncio.Server | None = None
        self.mend()

    def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        self._at_once(self._cut())

    def stop_up(self) -> None:
        """Let nothing through, and tell nobody: what is sent arrives when the link is mended, however late."""
        self._at_once(self._stop_up())

    def mend(self) -> None:
        """Let everything through again."""
        self._at_once(self._mend())

    def _at_once(self, change: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(change, self._loop).result(_DONE_S)

    async def _cut(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        for end in list(self._ends):
            _reset(end)

    async def _stop_up(self) -> None:
        self._passes.clear()

    async def _mend(self) -> None:
        self._passes.set()
        if self._listening is None:
            self._listening = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passes.wait()
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            await asyncio.sleep(_REFUSED_S)
            _reset(writer)
            return
        ends = {writer, server_writer}
        self._ends |= ends
        await asyncio.gather(self._copy(reader, server_writer), self._copy(server_reader, writer))
        self._ends -= ends

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_PIECE_BYTES):
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
        await self._passes.wait()
        writer.close()


def _reset(end: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # it is closed already
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_WHEN_CLOSED)
    end.transport.abort()


class Network:
    """All links, by the two that they join. Use it as a context manager."""

    def __init__(self) -> None:
        self._links: dict[str, list[Link]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Network":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for links in self._links.values():
            for link in links:
                link.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def lay(self, between: str, port: int, server_port: int) -> None:
        """Lead from a free port to a server's; several are one way, and break together."""
        self._links.setdefault(between, []).append(Link(port, server_port, self._loop))

    def between(self, between: str) -> list[Link]:
        """What joins two."""
        return self._links[between]
