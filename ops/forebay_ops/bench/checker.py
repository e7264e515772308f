"""The checker: sees when each reply comes, and that it is the right one, and the only one, to its request.

``python -m forebay_ops.bench.checker CONFIG DECK`` reads what is expected and tells what came, in lines of JSON. It
looks into replies when all of them are there: it shares the processors with what is measured.
"""

import sys
import time
from collections import Counter
from pathlib import Path
from statistics import fmean

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import Reply

from .deck import Card, Deck, number_in, request_id
from .pipes import Answers
from .traffic import QUIET

_POLL_S = 0.05
_QUIET_S = 0.3
"""So long is waited for repeats when every reply is there."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """A run whose replies are to be seen.

    Attributes:
        statuses: the cache statuses that are right; none: all are.
        silence_s: without a single reply for so long, the missing ones are given up.
    """

    run: int
    first: int
    count: int
    statuses: list[str]
    silence_s: float


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run.

    Attributes:
        seen_s: by request, when its first reply was seen: seconds of ``time.monotonic``; 0: never.
        repeats: replies beyond the first of their requests.
        wrong: replies that are not the right answer.
        example: what is wrong with one of them.
        statuses: how many replies there are of each cache status.
        mean_bytes: of a reply.
        lookup_ms: how long the job says that it waited for caches, on average; none of echoes.
    """

    seen_s: list[float]
    repeats: int
    wrong: int
    example: str
    statuses: dict[str, int]
    mean_bytes: float
    lookup_ms: float | None


class Checker:
    """One reader for all runs."""

    def __init__(self, config: Config, deck: Deck) -> None:
        self._deck = deck
        self._codec = Codec()
        topic = config.kafka.topics.replies
        settings = {"group_id": "checker", "isolation_level": "read_committed", "enable_auto_commit": False}
        # It must not add a wait of its own to what it measures.
        self._consumer = Consumer(config.kafka.client(fetch_wait_max_ms=10, **settings) | QUIET)
        # From the beginning: where the end is at the first poll, replies may have come already.
        places = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(config.kafka.partitions)]
        self._consumer.assign(places)

    def check(self, expected: Expected) -> Checked:
        """See all replies to a run, then look into them."""
        seen_s = [0.0] * expected.count
        values: list[tuple[int, bytes]] = []
        missing, last_s = expected.count, time.monotonic()
        while (now_s := time.monotonic()) - last_s < (expected.silence_s if missing else _QUIET_S):
            message = self._consumer.poll(_POLL_S)
            if message is None or message.error():
                continue
            number = number_in(message.key(), expected.run)
            if number is None:
                continue
            now_s = last_s = time.monotonic()
            if not seen_s[number]:
                seen_s[number], missing = now_s, missing - 1
            values.append((number, message.value() or b""))
        statuses: Counter[str] = Counter()
        lookups_ms: list[float] = []
        problems: list[str] = []
        for number, value in values:
            card, name = self._deck.card(expected.first + number), request_id(expected.run, number)
            if self._deck.echoed:
                problem = None if value == card.asked_as(name) else f"{name} came back changed"
            else:
                reply = self._codec.decode(value, Reply)
                statuses[reply.cache_status] += 1
                lookups_ms.append(reply.latency.lookup_ms)
                problem = _problem(reply, name, card, expected.statuses)
            if problem:
                problems.append(problem)
        return Checked(
            seen_s=seen_s,
            repeats=len(values) - expected.count + missing,
            wrong=len(problems),
            example=problems[0] if problems else "",
            statuses=dict(statuses),
            mean_bytes=sum(len(value) for _, value in values) / max(1, len(values)),
            lookup_ms=fmean(lookups_ms) if lookups_ms else None,
        )


def _problem(reply: Reply, name: str, card: Card, statuses: list[str]) -> str | None:
    """What is wrong with a reply whose key names a request; None where nothing is."""
    if reply.request_id != name:
        return f"{name} got the reply to {reply.request_id}"
    if reply.error is not None:
        return f"{name} got an error: {reply.error.message}"
    if statuses and reply.cache_status not in statuses:
        return f"{name} was answered by {reply.cache_status}, not by {' or '.join(statuses)}"
    if card.answer is not None and reply.text != card.answer:
        return f"{name} got {reply.text[:80]!a}, not {card.answer[:80]!a}"
    return None


if __name__ == "__main__":
    answers = Answers()
    checker = Checker(load_config(sys.argv[1]), Deck.read(Path(sys.argv[2])))
    answers.serve(Expected, checker.check)
