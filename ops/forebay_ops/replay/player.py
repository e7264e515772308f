"""Sends the requests of a trace at their moments, whatever becomes of those before, and gathers the replies."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from forebay_client import BrokerUnavailable, Client, ForebayError, Reply
from forebay_schemas.records import CacheOptions, CachePolicy

from ..traces.arrivals import Arrival
from .run import Run

_STEP_S = 0.1
"""How late an interruption, or the end of patience, may be noticed."""
_FIRST_ANSWER_S = 60.0
"""The first answer after a start has to wait for models that still load; a stack that is up needs seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one request that was due.

    Attributes:
        number: its place in the trace, from 1.
        late_ms: from the moment at which it was to be sent until it was.
        latency_ms: from the moment at which it was to be sent until its reply was here; None without a reply.
        error: why there is no reply.
    """

    number: int
    arrival: Arrival
    late_ms: float
    reply: Reply | None = None
    latency_ms: float | None = None
    error: ForebayError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A replay as it went.

    Attributes:
        outcomes: in the order of the trace, as far as it was sent.
        unsent: requests whose moment did not come, because the replay was stopped.
        duration_s: from the first moment until nothing was awaited any more.
    """

    began: datetime
    outcomes: list[Outcome]
    unsent: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a replay is, in requests."""

    sent: int
    replies: int
    failed: int


class TakenBack(ForebayError):
    """A request is not awaited any more."""


class NoAnswer(ForebayError):
    """There is no pipeline to replay to; the message says what to do."""


Told = Callable[[Standing], None]
Stopped = Callable[[], bool]


def await_first_answer(client: Client, run: Run, arrival: Arrival) -> None:
    """See that the pipeline answers: else thousands of requests would wait on Kafka until one is started.

    It takes one token, past the caches, and also connects the client, which the first request would else wait for.

    Raises:
        NoAnswer: nothing came.
        RequestFailed: an error did.
    """
    request, _ = run.request(0, arrival)
    past_caches = CacheOptions(policy=CachePolicy.BYPASS)
    try:
        client.ask(request, max_tokens=1, cache=past_caches, timeout_s=_FIRST_ANSWER_S)
    except TimeoutError as error:
        raise NoAnswer(
            f"the pipeline does not answer ({error}); `forebay up` starts one here, `forebay status` tells what of it"
            " is down"
        ) from None


class Player:
    """Plays one trace, open loop: a pipeline that falls behind is sent no less for it.

    Latency counts from the moment at which a request was to be sent, so that a sender which is held up hides no wait.

    Args:
        told: is called several times a second.
        stopped: whether to send no more, and to take back what is not answered yet.
        patience_s: when all is sent and nothing has come for this long, nothing is awaited any more.
    """

    def __init__(self, client: Client, run: Run, *, told: Told, stopped: Stopped, patience_s: float) -> None:
        self._client = client
        self._run = run
        self._told = told
        self._stopped = stopped
        self._patience_s = patience_s
        self._moments: list[tuple[float, float]] = []  # when each was due, and when it was sent
        # Written on the client's thread, each entry once.
        self._replies: dict[int, tuple[float, Reply]] = {}
        self._errors: dict[int, ForebayError] = {}

    def play(self, arrivals: Sequence[Arrival]) -> Played:
        """Send all requests, and wait for their replies."""
        began, began_s = datetime.now(UTC), time.monotonic()
        for number, arrival in enumerate(arrivals, start=1):
            due_s = began_s + arrival.at_ms / 1000
            if not self._wait_until(due_s):
                break
            self._moments.append((due_s, time.monotonic()))
            self._send(number, arrival)
        self._await_replies()
        duration_s = time.monotonic() - began_s
        due = arrivals[: len(self._moments)]
        outcomes = [self._outcome(number, arrival) for number, arrival in enumerate(due, start=1)]
        return Played(began=began, outcomes=outcomes, unsent=len(arrivals) - len(outcomes), duration_s=duration_s)

    def _wait_until(self, due_s: float) -> bool:
        """Whether it is to be sent."""
        while not self._stopped():
            self._tell()
            left_s = due_s - time.monotonic()
            if left_s <= 0:
                return True
            time.sleep(min(left_s, _STEP_S))
        return False

    def _send(self, number: int, arrival: Arrival) -> None:
        def on_reply(reply: Reply) -> None:
            self._replies[number] = time.monotonic(), reply

        def on_failure(_: str, error: ForebayError) -> None:
            self._errors[number] = error

        try:
            request, traceparent = self._run.request(number, arrival)
            self._client.publish(request, traceparent=traceparent, on_reply=on_reply, on_failure=on_failure)
        except ForebayError as error:
            self._errors[number] = error

    def _await_replies(self) -> None:
        answered, heard_s = -1, time.monotonic()
        while not self._stopped() and self._client.wait(_STEP_S):
            self._tell()
            if len(self._replies) > answered:
                answered, heard_s = len(self._replies), time.monotonic()
            if time.monotonic() - heard_s > self._patience_s:
                return

    def _outcome(self, number: int, arrival: Arrival) -> Outcome:
        due_s, sent_s = self._moments[number - 1]
        seen_s, reply = self._replies.get(number, (None, None))
        error = self._errors.get(number)
        if reply is None and error is None:
            self._take_back(number, arrival)
            why = "the replay was stopped" if self._stopped() else f"nothing came for {self._patience_s:g} s"
            error = TakenBack(f"{why} before its reply")
        return Outcome(
            number=number,
            arrival=arrival,
            late_ms=(sent_s - due_s) * 1000,
            reply=reply,
            latency_ms=None if seen_s is None else (seen_s - due_s) * 1000,
            error=error,
        )

    def _take_back(self, number: int, arrival: Arrival) -> None:
        """Nobody waits any more, and its generation would cost."""
        request, _ = self._run.request(number, arrival)
        with suppress(BrokerUnavailable):
            self._client.cancel(request.request_id, tenant=request.tenant)

    def _tell(self) -> None:
        self._told(Standing(len(self._moments), len(self._replies), len(self._errors)))
