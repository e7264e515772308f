"""Plays the script: sends each line when its moment has come, and gathers what becomes of it."""

import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

from forebay_schemas.records import DeadLetter, Reply

from .script import Expect, Line

OnAnswer = Callable[[Reply | DeadLetter], None]


class Sender(Protocol):
    """The way of a line into the pipeline."""

    def send(self, line: Line, on_answer: OnAnswer) -> None:
        """Send a line and return; its reply and its dead letter are handed over later, on any thread."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a line.

    Attributes:
        reply: absent where no asker could be read.
        dead_letter: present where the line was given up for good.
        latency_ms: from sending to the reply, as the asker sees it; absent without a reply.
    """

    line: Line
    reply: Reply | None
    dead_letter: DeadLetter | None
    latency_ms: float | None

    @property
    def kind(self) -> Expect:
        """How it was answered: a dead letter counts before the error reply beside it."""
        if self.dead_letter or self.reply is None:
            return Expect.DEAD_LETTER
        return Expect.ERROR if self.reply.error else Expect(self.reply.cache_status)


class Watcher(Protocol):
    """Is told how the play goes."""

    def answered(self, outcome: Outcome) -> None:
        """A line is done."""
        ...

    def waiting(self, in_flight: Sequence[Line], to_send: int, silent_s: float) -> None:
        """Called again and again: what is awaited, and how many seconds nothing has come."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the script is played.

    Attributes:
        window: no moment begins while this many lines are in flight. As many as the small machine's engine answers
            at once, so that a line's latency is generation and not a queue.
        settle_s: a line that builds on another is sent this long after the other's reply. The reply and the result
            that fills the caches are one transaction, but the job reads the result a little later.
        patience_s: the play ends when nothing has come for this long.
    """

    window: int = 16
    settle_s: float = 1.5
    patience_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """The play, as it went.

    Attributes:
        outcomes: in order of answering.
        unanswered: what was sent in vain.
        unsent: what waited for one of those.
    """

    outcomes: list[Outcome]
    unanswered: list[Line]
    unsent: list[Line]
    duration_s: float


_POLL_S = 0.1


@dataclass(slots=True)
class _Flight:
    line: Line
    sent_s: float
    reply: Reply | None = None
    dead_letter: DeadLetter | None = None
    latency_ms: float | None = None

    def take(self, answer: Reply | DeadLetter, now_s: float) -> None:
        if isinstance(answer, Reply):
            self.reply, self.latency_ms = answer, (now_s - self.sent_s) * 1000
        else:
            self.dead_letter = answer

    @property
    def done(self) -> bool:
        """Whether all has come that must: a reply where a tenant asks, a dead letter where one is expected."""
        replied = self.reply is not None or self.line.tenant is None
        return replied and (self.dead_letter is not None or self.line.expect is not Expect.DEAD_LETTER)


@dataclass(slots=True)
class _State:
    moments: deque[list[Line]]
    flights: dict[int, _Flight] = field(default_factory=dict)
    settled_from_s: dict[str, float] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    answers: queue.SimpleQueue[tuple[int, float, Reply | DeadLetter]] = field(default_factory=queue.SimpleQueue)
    heard_s: float = field(default_factory=time.monotonic)


def play(lines: Sequence[Line], sender: Sender, watcher: Watcher, pace: Pace | None = None) -> Play:
    """Play the script to its end, or until the pipeline has been silent for too long.

    Moments begin in order while fewer lines than the window are in flight; one whose lines wait for another's
    answer is passed over until it has come, so that the engine always has several answers to generate at once.
    """
    pace = pace or Pace()
    started_s = time.monotonic()
    state = _State(deque(list(moment) for _, moment in groupby(lines, key=lambda line: line.at)))
    while state.moments or state.flights:
        _send_what_can(state, sender, pace)
        _take_answers(state, watcher, pace)
        silent_s = time.monotonic() - state.heard_s
        in_flight = [flight.line for flight in state.flights.values()]
        watcher.waiting(in_flight, sum(map(len, state.moments)), silent_s)
        if silent_s > pace.patience_s:
            break
    return Play(
        outcomes=state.outcomes,
        unanswered=[flight.line for flight in state.flights.values()],
        unsent=[line for moment in state.moments for line in moment],
        duration_s=time.monotonic() - started_s,
    )


def _send_what_can(state: _State, sender: Sender, pace: Pace) -> None:
    now_s = time.monotonic()
    for moment in list(state.moments):
        if len(state.flights) >= pace.window:
            return
        if all(line.after is None or state.settled_from_s.get(line.after, now_s + 1) <= now_s for line in moment):
            state.moments.remove(moment)
            for line in moment:
                _send(state, sender, line)


def _send(state: _State, sender: Sender, line: Line) -> None:
    answers, number = state.answers, line.number
    state.flights[number] = _Flight(line, time.monotonic())
    sender.send(line, lambda answer: answers.put((number, time.monotonic(), answer)))


def _take_answers(state: _State, watcher: Watcher, pace: Pace) -> None:
    """Wait a moment for an answer, then take all that are there."""
    try:
        number, now_s, answer = state.answers.get(timeout=_POLL_S)
        while True:
            flight = state.flights.get(number)
            if flight:
                flight.take(answer, now_s)
                state.heard_s = now_s
                _finish_if_done(state, flight, watcher, now_s + pace.settle_s)
            number, now_s, answer = state.answers.get_nowait()
    except queue.Empty:
        return


def _finish_if_done(state: _State, flight: _Flight, watcher: Watcher, settled_from_s: float) -> None:
    if not flight.done:
        return
    line = flight.line
    del state.flights[line.number]
    if line.name:
        state.settled_from_s[line.name] = settled_from_s
    outcome = Outcome(
        line=line, reply=flight.reply, dead_letter=flight.dead_letter, latency_ms=flight.latency_ms
    )  # fmt: skip
    state.outcomes.append(outcome)
    watcher.answered(outcome)
