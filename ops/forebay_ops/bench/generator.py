"""The load generator: sends the requests of a deck when they are due, whether or not earlier ones were answered.

``python -m forebay_ops.bench.generator CONFIG DECK`` reads orders and tells what it has sent, in lines of JSON.
"""

import sys
import time
from pathlib import Path

import msgspec
from confluent_kafka import Producer
from forebay_schemas.config import Config, load_config
from forebay_schemas.topics import Headers

from .deck import Deck, request_id
from .pipes import Answers
from .traffic import QUIET

_LEAD_S = 0.05
"""Before the first request is due: else it would be late already."""
_TICK_S = 0.001
"""Shorter sleeps cost more processor time than they are worth; what falls due meanwhile is late by this at most."""
_ROOM_S = 0.1


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is to be sent.

    Attributes:
        first: number of its first card.
        rate_per_s: None: all are due at once.
    """

    run: int
    first: int
    count: int
    rate_per_s: float | None


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was sent.

    Attributes:
        began_s: when its first request was due, in seconds of ``time.monotonic``, which all processes share.
        late_ms: by how much the latest one was sent later than it was due; latency counts it.
    """

    began_s: float
    late_ms: float


class Generator:
    """One producer for all runs."""

    def __init__(self, config: Config, deck: Deck) -> None:
        self._deck = deck
        self._topic = config.kafka.topics.requests
        # As the client sends, but for the millisecond: one that sends thousands a second would gather them as well.
        settings = config.kafka.client(
            acks="all",
            enable_idempotence=True,
            linger_ms=1,
            compression_type="lz4",
            partitioner="murmur2_random",
            queue_buffering_max_messages=1_000_000,
        )
        self._producer = Producer(settings | QUIET)

    def send(self, order: Order) -> Sent:
        """Send a run, and return when the broker has all of it."""
        began_s = time.monotonic() + _LEAD_S
        late_s = 0.0
        for number in range(order.count):
            due_s = began_s + (number / order.rate_per_s if order.rate_per_s else 0.0)
            if (wait_s := due_s - time.monotonic()) > 0:
                self._producer.poll(0)
                time.sleep(max(wait_s, _TICK_S))
            self._send_one(request_id(order.run, number), order.first + number)
            late_s = max(late_s, time.monotonic() - due_s)
        self._producer.flush()
        return Sent(began_s=began_s, late_ms=late_s * 1000)

    def _send_one(self, name: str, number: int) -> None:
        value = self._deck.card(number).asked_as(name)
        headers: list[tuple[str, str | bytes | None]] = [
            *Headers(request_id=name, tenant=self._deck.tenant).to_kafka().items()
        ]
        while True:
            try:
                return self._producer.produce(self._topic, value, name, headers=headers)
            except BufferError:
                self._producer.poll(_ROOM_S)


if __name__ == "__main__":
    answers = Answers()
    generator = Generator(load_config(sys.argv[1]), Deck.read(Path(sys.argv[2])))
    answers.serve(Order, generator.send)
