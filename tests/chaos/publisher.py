"""A service of several tenants: publishes at a steady rate through the client, and tells what it sent and what it got.

Run as a process of its own, so that it can be killed: ``python -m tests.chaos.publisher NAME RATE [DEADLINE]``, where
the deadline of interactive requests is in seconds. It writes one line of JSON for each event, reads ``pause``,
``resume`` and ``rate RATE`` from its input, and on SIGTERM waits for what it still awaits.
"""

import random
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass

import msgspec
from forebay_client import BrokerUnavailable, Client
from forebay_schemas.records import CacheOptions, CachePolicy, Lane, Reply

from .answers import ALIKE, Topic, any_topic, question, wording

TENANTS = ("north", "south", "west")
_REPEATABLE = 50
"""Of a tenant's last questions, and topics, those that it asks again."""
_REWORDED = 0.5
"""Of the questions that may be answered by meaning, those whose topic was asked about before."""
_LEAVE_S = 60.0
_CATCH_UP_S = 0.2
"""So much of a schedule is made up for; what was missed before, as in a pause, is not."""


class Event(msgspec.Struct, omit_defaults=True):
    """One line: a request is about to be published, was answered, or could not be."""

    what: str
    """``sent``, ``reply`` or ``failed``."""
    tenant: str
    request_id: str
    text: str = ""
    """What was asked; the answer; why it failed."""
    error: str | None = None
    """Code of an error reply; which error the client gave up with."""


@dataclass(frozen=True)
class _Wanted:
    """One request."""

    tenant: str
    question: str
    policy: CachePolicy = CachePolicy.USE
    lane: Lane = Lane.INTERACTIVE
    category: str = "default"


class _Asker:
    """Makes up requests: most are new; of the others some repeat one, bypass the caches, may be answered by meaning, or
    are for the batch lane."""

    def __init__(self, name: str) -> None:
        self._chance = random.Random(name)
        self._asked = {tenant: deque[str](maxlen=_REPEATABLE) for tenant in TENANTS}
        self._topics = {tenant: deque[Topic](maxlen=_REPEATABLE) for tenant in TENANTS}

    def next(self) -> _Wanted:
        tenant, kind = self._chance.choice(TENANTS), self._chance.random()
        asked = self._asked[tenant]
        if kind < 0.25 and asked:
            return _Wanted(tenant, self._chance.choice(asked))
        text = question(tenant, self._chance.randrange(10**12))
        if kind < 0.35:
            return _Wanted(tenant, text, CachePolicy.BYPASS)
        if kind < 0.45:
            return _Wanted(tenant, self._worded(tenant), category=ALIKE)
        asked.append(text)
        return _Wanted(tenant, text, lane=Lane.BATCH if kind < 0.55 else Lane.INTERACTIVE)

    def _worded(self, tenant: str) -> str:
        topics = self._topics[tenant]
        if topics and self._chance.random() < _REWORDED:
            return wording(tenant, self._chance.choice(topics), self._chance)
        topics.append(any_topic(self._chance))
        return wording(tenant, topics[-1], self._chance)


def main(name: str, rate_per_s: float, deadline_s: float | None = None) -> None:
    """Publish until SIGTERM."""
    every_s = 1 / rate_per_s
    stop, going, telling = threading.Event(), threading.Event(), threading.Lock()
    going.set()

    def tell(event: Event) -> None:
        line = msgspec.json.encode(event) + b"\n"
        with telling:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

    def obey() -> None:
        nonlocal every_s
        for line in sys.stdin:
            word, _, rate = line.strip().partition(" ")
            if word == "rate":
                every_s = 1 / float(rate)
            else:
                going.set() if word == "resume" else going.clear()

    def leave(*_: object) -> None:
        stop.set()
        going.set()

    def replied(reply: Reply) -> None:
        error = reply.error.code if reply.error else None
        tell(Event("reply", reply.tenant, reply.request_id, reply.text, error))

    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=obey, daemon=True).start()
    asker, number, next_s = _Asker(name), 0, time.monotonic()
    with Client() as client:
        while not stop.is_set():
            going.wait()
            wanted = asker.next()
            request_id = f"{name}-{number}"
            number += 1
            tell(Event("sent", wanted.tenant, request_id, wanted.question))
            try:
                client.publish(
                    wanted.question,
                    tenant=wanted.tenant,
                    request_id=request_id,
                    lane=wanted.lane,
                    category=wanted.category,
                    deadline_s=deadline_s if wanted.lane is Lane.INTERACTIVE else None,
                    cache=CacheOptions(policy=wanted.policy),
                    on_reply=replied,
                    on_failure=lambda failed, why, of=wanted.tenant: tell(
                        Event("failed", of, failed, str(why), type(why).__name__)
                    ),
                )
            except BrokerUnavailable as error:  # the topic is gone
                tell(Event("failed", wanted.tenant, request_id, str(error)))
            next_s = max(next_s, time.monotonic() - _CATCH_UP_S) + every_s
            stop.wait(next_s - time.monotonic())
        client.wait(_LEAVE_S)


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
