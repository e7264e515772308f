"""Doubles for the tests of the demo: lines, replies, and a pipeline that answers as the script expects, or does not."""

from collections.abc import Sequence
from typing import Any

from forebay_ops.demo.player import OnAnswer, Outcome
from forebay_ops.demo.script import Expect, Line
from forebay_schemas.records import CacheStatus, DeadLetter, Reply, ReplyError

from tests.builders import make_reply, make_route

ERROR = ReplyError(code="deadline_exceeded", message="deadline_ms: passed 5 ms ago", retryable=False)


def a_line(number: int, *, at: int = 1, expect: Expect = Expect.MISS, text: str = "How deep?", **changes: Any) -> Line:
    """A line that is sent at once and by the client."""
    values = {"tenant": "millrace", "fields": {"messages": [{"role": "user", "content": text}]}} | changes
    return Line(number=number, at=at, expect=expect, **values)


def a_reply(line: Line, **changes: Any) -> Reply:
    """The reply that a line expects, as cheap as they come."""
    if line.expect in (Expect.ERROR, Expect.DEAD_LETTER):
        answer = {"cache_status": CacheStatus.BYPASS, "error": ERROR, "text": "", "route": None}
    else:
        answer = {"cache_status": CacheStatus(line.expect), "route": make_route()}
    ids = {"request_id": line.request_id("run"), "tenant": line.tenant or ""}
    return make_reply(**ids | answer | changes)


def a_dead_letter() -> DeadLetter:
    return DeadLetter(
        code="not_avro",
        reason="the value is no Avro",
        place="job",
        topic="llm.requests",
        partition=0,
        offset=7,
        failed_ms=1_000,
        value=b"?",
        value_length=1,
        value_digest="0",
    )


def an_outcome(line: Line, latency_ms: float | None = 10.0, **reply: Any) -> Outcome:
    """What becomes of a line that is answered as it expects."""
    dead = line.expect is Expect.DEAD_LETTER
    return Outcome(
        line=line,
        reply=a_reply(line, **reply) if line.tenant else None,
        dead_letter=a_dead_letter() if dead else None,
        latency_ms=latency_ms if line.tenant else None,
    )


class Pipeline:
    """A ``Sender`` that answers what it is sent at once, or when ``answer`` is called.

    Args:
        silent: numbers of the lines that are never answered at once.
    """

    def __init__(self, silent: Sequence[int] = ()) -> None:
        self.sent: list[int] = []
        self._silent = set(silent)
        self._waiting: dict[int, tuple[Line, OnAnswer]] = {}

    def send(self, line: Line, on_answer: OnAnswer) -> None:
        self.sent.append(line.number)
        self._waiting[line.number] = (line, on_answer)
        if line.number not in self._silent:
            self.answer(line.number)

    def answer(self, number: int) -> None:
        line, on_answer = self._waiting.pop(number)
        if line.expect is Expect.DEAD_LETTER:
            on_answer(a_dead_letter())
        if line.tenant:
            on_answer(a_reply(line))


class Audience:
    """A ``Watcher`` that remembers, and may act while it is told what is awaited."""

    def __init__(self) -> None:
        self.seen: list[Outcome] = []
        self.awaited: list[list[int]] = []

    def answered(self, outcome: Outcome) -> None:
        self.seen.append(outcome)

    def waiting(self, in_flight: Sequence[Line], to_send: int, silent_s: float) -> None:
        self.awaited.append([line.number for line in in_flight])
