"""A Schema Registry in process, with the three calls that we use, that can fail and refuse to register."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class RegistryDouble:
    """What the registry holds and is asked, and how it behaves."""

    def __init__(self) -> None:
        self.url = ""
        self.schemas: list[str] = []
        """Schema texts; the id of one is its place, from 1."""
        self.subjects: dict[str, list[int]] = {}
        """Ids by subject."""
        self.asked: list[str] = []
        """Method and path of each call."""
        self.credentials: set[str | None] = set()
        """The Authorization headers that came."""
        self.failing = False
        self.read_only = False

    def add(self, subject: str, schema: str) -> int:
        """Register a schema; the same text has the same id everywhere."""
        if schema not in self.schemas:
            self.schemas.append(schema)
        schema_id = self.schemas.index(schema) + 1
        ids = self.subjects.setdefault(subject, [])
        if schema_id not in ids:
            ids.append(schema_id)
        return schema_id

    def answer(self, method: str, path: str, body: dict[str, str]) -> tuple[int, dict[str, object]]:
        """Status and content of the answer to one call."""
        self.asked.append(f"{method} {path}")
        if self.failing:
            return 500, {"error_code": 500, "message": "the store is gone"}
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            schema_id = int(found[1])
            if 0 < schema_id <= len(self.schemas):
                return 200, {"schema": self.schemas[schema_id - 1]}
            return 404, {"error_code": 40403, "message": "Schema not found"}
        found = re.fullmatch(r"/subjects/([^/]+)(/versions)?", path)
        assert found, path
        subject, registers = found.groups()
        if registers and self.read_only:
            return 403, {"error_code": 40301, "message": "User is denied"}
        if registers:
            return 200, {"id": self.add(subject, body["schema"])}
        for version, schema_id in enumerate(self.subjects.get(subject, []), 1):
            if self.schemas[schema_id - 1] == body["schema"]:
                return 200, {"subject": subject, "id": schema_id, "version": version, "schema": body["schema"]}
        return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found"}


@contextmanager
def running_registry() -> Iterator[RegistryDouble]:
    """A registry on a free port of this machine."""
    double = RegistryDouble()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            double.credentials.add(self.headers.get("Authorization"))
            status, content = double.answer(self.command, self.path.split("?")[0], json.loads(body or b"{}"))
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _handle

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    double.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
