"""Batches without brokers: what is committed is kept, and a test says what is answered and when a process dies."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from forebay_client.batch import batch as batch_module
from forebay_client.batch import collecting
from forebay_client.batch.errors import BatchTakenOver
from forebay_client.batch.log import Portion
from forebay_client.preparing import Prepared
from forebay_schemas.batches import row_of
from forebay_schemas.codec import Codec
from forebay_schemas.records import BatchState, Control, Reply, ReplyError, Request

from tests.builders import make_reply

CODEC = Codec()
Answer = Callable[[Request], Reply | None]


class Killed(BaseException):
    """The process is gone: nothing that it would have done comes to pass."""


def echo(request: Request) -> Reply:
    """Answers with the question."""
    text = request.messages[-1].content or ""
    return make_reply(request_id=request.request_id, tenant=request.tenant, text=text, cost=0.001, baseline_cost=0.01)


def failing(request: Request) -> Reply:
    """Answers with an error."""
    error = ReplyError(code="given_up", message="it failed three times", retryable=False)
    return make_reply(request_id=request.request_id, tenant=request.tenant, error=error)


class MemoryLog:
    """The topics of requests, of batches, of commands, and one partition of replies.

    Attributes:
        answer: what job and workers reply to a request, at once; None: not yet.
        endless: whether more is written to the topic of replies than can be read.
        at_reading: called before replies are read.
        die_before, die_after: numbers of commits, from 1 over all processes, before or after which the process dies.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Answer = echo) -> None:
        self.answer = answer
        self.endless = False
        self.at_reading: Callable[[], object] = lambda: None
        self.die_before: set[int] = set()
        self.die_after: set[int] = set()
        self.commits = 0
        self.requests: list[Request] = []
        self.states: dict[str, BatchState] = {}
        self.commands: list[Control] = []
        self.replies: list[tuple[str, str, bytes]] = []
        self.owners: dict[str, int] = {}
        monkeypatch.setattr(batch_module, "Owner", lambda config, codec, batch_id: _MemoryOwner(self, batch_id))
        monkeypatch.setattr(batch_module, "StateLog", lambda config, codec: _MemoryStates(self))
        monkeypatch.setattr(batch_module, "ends_of", lambda config, topic: [len(self.replies)])
        monkeypatch.setattr(collecting, "ReplyReader", lambda config, state, at: _MemoryReader(self, state, at))

    @property
    def rows(self) -> list[int]:
        """The rows that were published, in that order."""
        return [row[1] for request in self.requests if (row := row_of(request.request_id))]

    def reply(self, reply: Reply) -> None:
        """Write one reply."""
        self.replies.append((reply.tenant, reply.request_id, CODEC.encode(reply)))

    def answer_all(self, answer: Answer = echo) -> None:
        """Answer everything that was published, whether it is answered already or not."""
        for request in self.requests:
            if reply := answer(request):
                self.reply(reply)


class _MemoryOwner:
    def __init__(self, log: MemoryLog, batch_id: str) -> None:
        self._log = log
        self._batch_id = batch_id
        self._epoch = log.owners[batch_id] = log.owners.get(batch_id, 0) + 1

    def commit(self, state: BatchState, requests: Sequence[Prepared] = (), commands: Sequence[Control] = ()) -> None:
        log = self._log
        log.commits += 1
        if log.commits in log.die_before:
            raise Killed
        if log.owners[self._batch_id] != self._epoch:
            raise BatchTakenOver(self._batch_id)
        log.states.pop(self._batch_id, None)
        log.states[self._batch_id] = state
        log.commands += commands
        for prepared in requests:
            request = CODEC.decode(prepared.value, Request)
            log.requests.append(request)
            if reply := log.answer(request):
                log.reply(reply)
        if log.commits in log.die_after:
            raise Killed

    def close(self) -> None: ...


class _MemoryStates:
    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def read(self) -> Mapping[str, BatchState]:
        return dict(self._log.states)

    def close(self) -> None: ...


class _MemoryReader:
    gap = False

    def __init__(self, log: MemoryLog, state: BatchState, positions: Mapping[int, int]) -> None:
        self._log = log
        self._state = state
        self._at = positions[0]

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._log.replies) and not self._log.endless

    def poll(self, timeout_s: float) -> Portion:
        self._log.at_reading()
        tenant, batch_id = self._state.tenant, self._state.batch_id
        read = self._log.replies[self._at :]
        self._at += len(read)
        rows = [(row_of(request_id), owner, value) for owner, request_id, value in read]
        ours = [(row[1], value) for row, owner, value in rows if row and (row[0], owner) == (batch_id, tenant)]
        return Portion(ours, {0: self._at} if read else {})

    def close(self) -> None: ...


def a_line(custom_id: str, question: str, **body: Any) -> dict[str, Any]:
    """A line of OpenAI's batch format."""
    messages = [{"role": "user", "content": question}]
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "auto", "messages": messages, **body},
    }


def write_lines(file: Path, lines: Sequence[Any]) -> Path:
    """A file of such lines; text is written as it is."""
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return file


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a file, a line each."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def small_portions(monkeypatch: pytest.MonkeyPatch, rows: int = 3) -> None:
    """Let a transaction hold so many rows, so that a short file takes several."""
    monkeypatch.setattr("forebay_client.batch.sending.PORTION_ROWS", rows)
