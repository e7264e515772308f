"""A double of Flink's REST interface: jobs that a test puts there, over real HTTP on a free port."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FlinkRest:
    """Serves what is in ``jobs``, ``checkpoints`` and ``slots``; a job that is cancelled goes to CANCELLING."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.checkpoints: dict[str, Any] = {}
        self.slots = 1
        self.savepoint: dict[str, Any] | None = None
        """What became of a savepoint that was asked for; None: it is being written."""
        self.stopped: list[dict[str, Any]] = []
        """With what jobs were told to stop."""
        self.answer: tuple[int, bytes] | None = None
        """What is answered to everything instead, where a test says so."""
        self.deaf = False
        """Whether jobs go on although they were told to end."""
        self.asked: list[str] = []
        rest = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*rest._get(self.path))

            def do_PATCH(self) -> None:
                self._answer(*rest._cancel(self.path))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(*rest._stop(self.path, json.loads(body)))

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) + 100 if body.endswith(b"...") else len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, job_id: str, name: str, state: str = "RUNNING", start_time: int = 1) -> None:
        self.jobs[job_id] = {"jid": job_id, "name": name, "state": state, "start-time": start_time}

    def _get(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        if self.answer is not None:
            return self.answer
        if path == "/jobs/overview":
            return _json({"jobs": list(self.jobs.values())})
        if path == "/overview":
            return _json({"slots-total": self.slots, "taskmanagers": 1})
        if path.endswith("/savepoints/asked"):
            state = "IN_PROGRESS" if self.savepoint is None else "COMPLETED"
            return _json({"status": {"id": state}, "operation": self.savepoint})
        job_id = path.removeprefix("/jobs/").removesuffix("/checkpoints")
        if path.endswith("/checkpoints") and job_id in self.jobs:
            completed = self.checkpoints.get(job_id)
            return _json({"latest": {"completed": {"external_path": completed} if completed else None}})
        return 404, b'{"errors": ["not found"]}'

    def _stop(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        self.asked.append(f"POST {path}")
        self.stopped.append(body)
        return _json({"request-id": "asked"})

    def _cancel(self, path: str) -> tuple[int, bytes]:
        self.asked.append(f"PATCH {path}")
        if not self.deaf:
            self.jobs[path.removeprefix("/jobs/")]["state"] = "CANCELLING"
        return 202, b""


def _json(value: Any) -> tuple[int, bytes]:
    return 200, json.dumps(value).encode()
