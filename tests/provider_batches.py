"""A provider's batch endpoints, as OpenAI has them: batches end when, and how, a test says."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .waiting import eventually

Completes = Callable[[dict[str, Any]], dict[str, Any]]
"""What a chat completion answers to its body."""


@dataclass
class Batch:
    """One batch, as it was made."""

    batch_id: str
    input_file_id: str
    lines: list[dict[str, Any]]
    metadata: dict[str, str]
    created_at: int
    status: str = "in_progress"
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: dict[str, Any] | None = None

    @property
    def questions(self) -> list[str]:
        """What the users of its requests say last."""
        return [line["body"]["messages"][-1]["content"] for line in self.lines]

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.batch_id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            **{name: value for name, value in vars(self).items() if name not in ("batch_id", "lines")},
        }


@dataclass
class Batches:
    """All batches and files of a provider; used by many threads."""

    ends_at_once: bool = False
    """Whether a batch is complete as soon as it is made."""
    refuses: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By method and first part of the path (``POST /files``), what the next calls are answered with; 0: what was asked
    for is done, and the connection ends without an answer."""
    gates: dict[str, threading.Event] = field(default_factory=dict)
    """By method and path, until when a call waits."""
    made: list[Batch] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    charged: list[str] = field(default_factory=list)
    """The questions that were answered in batches."""
    calls: list[str] = field(default_factory=list)
    completes: Completes = field(init=False)
    """Set by whoever serves it."""

    def __post_init__(self) -> None:
        self._lock = threading.RLock()

    def await_made(self, count: int) -> Batch:
        """The last batch, once there are as many."""
        eventually(lambda: len(self.made) >= count, f"{count} batches")
        return self.made[count - 1]

    def end(
        self,
        batch: Batch,
        status: str = "completed",
        *,
        untouched: Collection[str] = (),
        left_out: Collection[str] = (),
        failing: Mapping[str, tuple[int, str]] | None = None,
        invalid: Mapping[int, str] | None = None,
    ) -> None:
        """End a batch.

        Args:
            untouched: questions that the end finds unanswered.
            left_out: questions of which no file says anything.
            failing: status and message by question.
            invalid: of a batch that fails as a whole, messages by line.
        """
        output, errors = [], []
        with self._lock:
            for line, question in zip(batch.lines, batch.questions, strict=True):
                told: dict[str, Any] = {"id": "r", "custom_id": line["custom_id"], "response": None, "error": None}
                if question in left_out:
                    continue
                if question in untouched or status == "failed":
                    errors.append({**told, "error": {"code": f"batch_{status}", "message": "This was not answered."}})
                elif failing and question in failing:
                    code, message = failing[question]
                    body = {"error": {"message": message, "type": "x", "code": None}}
                    errors.append({**told, "response": {"status_code": code, "request_id": "r", "body": body}})
                else:
                    self.charged.append(question)
                    body = self.completes(line["body"])
                    output.append({**told, "response": {"status_code": 200, "request_id": "r", "body": body}})
            if status == "failed":
                data = [
                    {"line": line, "message": message, "code": "invalid"} for line, message in (invalid or {}).items()
                ]
                batch.errors = {"object": "list", "data": data}
            else:
                batch.output_file_id = self._keep(output) if output else None
                batch.error_file_id = self._keep(errors) if errors else None
            batch.status = status

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        """Status and body for a call; 0: the connection ends."""
        url = urlsplit(target)
        _, kind, *rest = url.path.removeprefix("/v1").split("/")
        call = f"{method} /{kind}" + ("/cancel" if rest[-1:] == ["cancel"] else "")
        self.calls.append(call)
        if call in self.gates:
            self.gates[call].wait()
        with self._lock:
            refusals = self.refuses[f"{method} /{kind}"]
            refusal = refusals.pop(0) if refusals else None
            if refusal:
                return refusal, json.dumps({"error": {"message": "not now", "type": "x"}}).encode()
            status, answer = (
                self._files(method, rest, headers, body)
                if kind == "files"
                else self._batches(method, rest, parse_qs(url.query), body)
            )
            return (status, answer) if refusal is None else (0, b"")

    def _files(self, method: str, rest: list[str], headers: Any, body: bytes) -> tuple[int, bytes]:
        if method == "POST":
            head = f"content-type: {headers['content-type']}\r\n\r\n".encode()
            parts: Any = message_from_bytes(head + body).get_payload()
            content = next(part.get_payload(decode=True) for part in parts if part.get_filename())
            name = self._named(content)
            return 200, json.dumps({"id": name, "object": "file", "purpose": "batch"}).encode()
        if rest[0] not in self.files:
            return 404, b'{"error": {"message": "no such file"}}'
        if method == "DELETE":
            del self.files[rest[0]]
            return 200, b'{"id": "", "object": "file", "deleted": true}'
        return 200, self.files[rest[0]]

    def _batches(self, method: str, rest: list[str], query: dict[str, list[str]], body: bytes) -> tuple[int, bytes]:
        if rest:
            batch = next(one for one in self.made if one.batch_id == rest[0])
            if rest[-1] == "cancel" and batch.status == "in_progress":
                batch.status = "cancelling"
            return 200, json.dumps(batch.shown()).encode()
        if method == "POST":
            asked = json.loads(body)
            lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
            made = Batch(
                f"batch_{len(self.made)}", asked["input_file_id"], lines, asked["metadata"], round(time.time())
            )
            self.made.append(made)
            if self.ends_at_once:
                self.end(made)
            return 200, json.dumps(made.shown()).encode()
        newest = self.made[::-1]
        after = query.get("after", [None])[0]
        start = next((at + 1 for at, one in enumerate(newest) if one.batch_id == after), 0)
        page = newest[start : start + int(query["limit"][0])]
        more = start + len(page) < len(newest)
        shown = {"object": "list", "data": [one.shown() for one in page], "has_more": more}
        return 200, json.dumps(shown).encode()

    def _keep(self, lines: list[dict[str, Any]]) -> str:
        return self._named("\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode())

    def _named(self, content: bytes) -> str:
        name = f"file_{len(self.files)}_{len(self.calls)}"
        self.files[name] = content
        return name
