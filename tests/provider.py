"""A provider of models behind an OpenAI-compatible endpoint, which says what a test lets it."""

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .provider_batches import Batches


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked may have been cut off, which is nothing to tell of."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(says: Callable[[str, str], str], batches: Batches | None = None) -> Iterator[str]:
    """A provider's address.

    Args:
        says: its answer to what the user says last, to be had from the model of a name; called by many threads.
        batches: absent: it takes none.
    """

    def completes(asked: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": says(asked["messages"][-1]["content"], asked["model"])}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": asked["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20},
        }

    if batches is not None:
        batches.completes = completes

    class Provider(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            asked = self.rfile.read(length)
            if len(asked) < length:
                raise ConnectionError("who asked has left in the middle of asking")
            if self.path.endswith("/chat/completions"):
                self._answer(200, json.dumps(completes(json.loads(asked))).encode())
            else:
                self._batches(asked)

        def do_GET(self) -> None:
            self._batches(b"")

        def do_DELETE(self) -> None:
            self._batches(b"")

        def _batches(self, asked: bytes) -> None:
            status, body = batches.answer(self.command, self.path, self.headers, asked) if batches else (404, b"{}")
            if status:
                self._answer(status, body)
            else:
                self.close_connection = True

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            with contextlib.suppress(ConnectionError):  # who asked may have been killed
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = _Server(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
