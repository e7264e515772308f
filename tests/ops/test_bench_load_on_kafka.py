"""A load on a real broker: what comes back right is timed, and whatever is missing, repeated or wrong is found."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, Producer
from forebay_ops.bench import load, prompts
from forebay_ops.bench.deck import deck
from forebay_ops.bench.load import Load
from forebay_ops.bench.process import BenchFailed
from forebay_ops.bench.rig import Rig, rig, synthetic_settings
from forebay_schemas.config import Config

pytestmark = pytest.mark.stack

COUNT = 50
Replies = Callable[[int, bytes], list[bytes]]


@pytest.fixture(scope="module")
def it() -> Iterator[Rig]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOREBAY_HOME", str(Path(__file__).parents[2] / ".forebay"))
        with rig(print) as started:
            yield started


@contextmanager
def echoing(config: Config, replies: Replies) -> Iterator[None]:
    """Answers the requests of an installation; ``replies`` says with what, by their number."""
    stop = threading.Event()
    topics = config.kafka.topics
    consumer = Consumer(config.kafka.client(group_id="echo", auto_offset_reset="earliest"))
    producer = Producer(config.kafka.client())
    consumer.subscribe([topics.requests])

    def reply_to(number: int, message: Message) -> None:
        for value in replies(number, message.value() or b""):
            producer.produce(topics.replies, value, message.key())
        producer.flush()

    def run() -> None:
        number = 0
        while not stop.is_set():
            message = consumer.poll(0.05)
            if message is not None and not message.error():
                reply_to(number, message)
                number += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        consumer.close()


def loaded(it: Rig, config: Config) -> Load:
    requests = prompts.asked(prompts.reusable(7, seed=1))
    return Load(it, config, deck(requests, [None] * len(requests), echoed=True))


def test_each_reply_is_timed_from_when_its_request_was_due(it: Rig) -> None:
    config = it.installation(**synthetic_settings())
    with echoing(config, lambda _, value: [value]):
        asked = loaded(it, config)
        first, second = asked.run(COUNT, rate_per_s=200.0), asked.run(COUNT)
    assert len(first.latencies_ms) == len(second.latencies_ms) == COUNT
    assert min(first.latencies_ms) > 0
    assert first.requests_per_s < 210
    assert list(first.percentiles()) == ["p50_ms", "p95_ms", "p99_ms", "max_ms"]


def test_a_deck_that_is_asked_once_does_not_begin_again(it: Rig) -> None:
    config = it.installation(**synthetic_settings())
    requests = prompts.asked(prompts.reusable(7, seed=1))
    asked = Load(it, config, deck(requests, [None] * len(requests), echoed=True, over_and_over=False))
    with echoing(config, lambda _, value: [value]):
        asked.run(7)
        with pytest.raises(BenchFailed, match="has 7 requests, each to be sent once, and more are needed"):
            asked.run(1)


@pytest.mark.parametrize(
    ("spoilt", "found"),
    [
        (lambda value: [], "1 replies are missing, 0 are repeats, 0 are wrong"),
        (lambda value: [value] * 3, "0 replies are missing, 2 are repeats, 0 are wrong"),
        (lambda value: [value + b"!"], "0 replies are missing, 0 are repeats, 1 are wrong"),
    ],
    ids=["missing", "repeated", "wrong"],
)
def test_what_is_not_the_one_right_reply_fails_the_benchmark(
    it: Rig, monkeypatch: pytest.MonkeyPatch, spoilt: Callable[[bytes], list[bytes]], found: str
) -> None:
    config = it.installation(**synthetic_settings())
    with echoing(config, lambda number, value: spoilt(value) if number == COUNT else [value]):
        asked = loaded(it, config)
        # The first run waits until both processes and the echo are up, however long that takes.
        asked.run(COUNT)
        monkeypatch.setattr(load, "SILENCE_S", 5.0)
        with pytest.raises(BenchFailed, match=f"of {COUNT} requests {found}"):
            asked.run(COUNT)
