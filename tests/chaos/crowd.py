"""Many callers of the gateway at once: so many calls a second, whatever becomes of those before."""

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx

from .answers import answer, question
from .phase import at_share

_TENANT = "default"
_FIRST_SUBJECT = 10**13
"""Nobody else asks of these."""
_PATIENCE_S = 60.0
_IDLE_S = 0.1
_CUT = "cut off"


@dataclass
class Call:
    """One question.

    Attributes:
        told: the status, with the error's code where there is one; ``cut off`` where the connection broke.
        right: whether the answer is the one to its question; None where there is none.
    """

    begun_ms: float
    took_ms: float = math.inf
    told: str = ""
    right: bool | None = None


@dataclass
class Calls:
    """Those of a span of time."""

    name: str
    all: list[Call]

    def with_answer(self) -> list[Call]:
        """Those that got one, in time or not."""
        return [one for one in self.all if one.right is not None]

    def took_ms(self, share: float) -> float:
        """How long an answer took at most, for that share of them; NaN where there is none."""
        return at_share((one.took_ms for one in self.with_answer()), share)


@dataclass
class Crowd:
    """Calls from a thread of its own; a context manager.

    Args:
        gateway_port: where they go.
        deadline_s: after that nobody needs the answer.
    """

    gateway_port: int
    deadline_s: float
    rate_per_s: float = 0.0
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._calling = threading.Thread(target=lambda: asyncio.run(self._call_on()), daemon=True)

    def __enter__(self) -> "Crowd":
        self._calling.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin no further call, and wait for those that were begun."""
        self._over.set()
        self._calling.join(2 * _PATIENCE_S)

    def between(self, name: str, began_ms: float, ended_ms: float) -> Calls:
        """The calls that were begun then."""
        return Calls(name, [one for one in list(self.calls) if began_ms <= one.begun_ms < ended_ms])

    async def _call_on(self) -> None:
        subjects, next_s = itertools.count(_FIRST_SUBJECT), time.monotonic()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        base = f"http://127.0.0.1:{self.gateway_port}"
        async with httpx.AsyncClient(base_url=base, limits=limits, timeout=_PATIENCE_S) as client:
            running = set[asyncio.Task[None]]()
            while not self._over.is_set():
                if self.rate_per_s <= 0:
                    await asyncio.sleep(_IDLE_S)
                    next_s = time.monotonic()
                    continue
                call = asyncio.create_task(self._call(client, question(_TENANT, next(subjects))))
                running.add(call)
                call.add_done_callback(running.discard)
                next_s = max(next_s, time.monotonic() - _IDLE_S) + 1 / self.rate_per_s
                await asyncio.sleep(next_s - time.monotonic())
            if running:
                await asyncio.wait(running)

    async def _call(self, client: httpx.AsyncClient, asked: str) -> None:
        body = {
            "model": "small",
            "messages": [{"role": "user", "content": asked}],
            "forebay": {"deadline_s": self.deadline_s},
        }
        call = Call(time.time() * 1000)
        self.calls.append(call)
        began_s = time.monotonic()
        try:
            response = await client.post("/v1/chat/completions", json=body)
        except httpx.HTTPError:
            call.told = _CUT
            return
        call.took_ms = (time.monotonic() - began_s) * 1000
        if response.status_code == httpx.codes.OK:
            call.told = "200"
            call.right = response.json()["choices"][0]["message"]["content"] == answer(asked)
        else:
            call.told = refusal(response)


def refusal(response: httpx.Response) -> str:
    """The status and the code of an error."""
    try:
        return f"{response.status_code} {response.json()['error']['code']}"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} without a code"


def unclear(calls: Iterable[Call]) -> list[str]:
    """What was told of calls that got neither an answer nor an error that says to come again or that it is late."""
    clear = ("200", "429 ", "503 overloaded", "504 deadline_exceeded")
    return [one.told or "nothing" for one in calls if not one.told.startswith(clear)]
