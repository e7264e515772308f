"""How many generations a thousand equal requests cost that come within a second."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, TopicPartition
from forebay_schemas.config import Config
from forebay_schemas.records import CacheStatus, Lane

from . import prompts
from .deck import Deck, deck
from .harness import Bench, Goal, Say
from .load import Load
from .rig import rig, synthetic_settings
from .traffic import QUIET

ONE, EQUAL = "one request", "1,000 equal ones"
_EQUAL = 1_000
_WITHIN_S = 1.0
_LATENCY_MS = 2_000.0
"""Of the one generation: longer than requests come, so that all of them find it in flight."""
_MOST_MEASUREMENTS = 100
_BROKER_S = 30


@contextmanager
def bench(say: Say) -> Iterator[Bench]:
    """One question asked once, and another one a thousand times, each time a new one, of a model that takes a while."""
    with rig(say, also=("redis", "flink")) as it:
        settings = synthetic_settings()
        settings["models"]["model"]["synthetic"] = {"latency_ms": _LATENCY_MS}
        config = it.job(it.installation(**settings))
        it.worker(config)
        statuses = [CacheStatus.MISS, CacheStatus.JOINED, CacheStatus.EXACT]  # exact: read after the answer was there
        single = Load(it, config, _repeated(1, seed=1), statuses=statuses)
        equal = Load(it, config, _repeated(_EQUAL, seed=2), statuses=statuses)

        def measured(load: Load, count: int) -> dict[str, float]:
            before = _tasks(config)
            run = load.run(count, _EQUAL / _WITHIN_S)
            joined = float(run.statuses.get(CacheStatus.JOINED, 0))
            return {"generations": float(_tasks(config) - before), "joined": joined, **run.percentiles()}

        yield Bench(
            sides={ONE: lambda: measured(single, 1), EQUAL: lambda: measured(equal, _EQUAL)},
            goals=(Goal(side=EQUAL, metric="generations", at_least=1, at_most=1, of="figure"),),
            facts={
                "a generation takes": f"{_LATENCY_MS / 1000:g} s",
                "requests a second": f"{_EQUAL / _WITHIN_S:,.0f}",
            },
            processes=it.processes,
        )


def _repeated(times: int, seed: int) -> Deck:
    """Each question so many times, one after the other."""
    asked = [request for request in prompts.asked(prompts.reusable(_MOST_MEASUREMENTS, seed)) for _ in range(times)]
    return deck(asked, [None] * len(asked))


def _tasks(config: Config) -> int:
    """How many tasks the job has written for the tier."""
    topic = config.kafka.topics.tier(config.largest_tier, Lane.INTERACTIVE)
    consumer = Consumer(config.kafka.client(group_id="bench") | QUIET)
    try:
        places = [TopicPartition(topic, number) for number in range(config.kafka.partitions)]
        return sum(consumer.get_watermark_offsets(place, timeout=_BROKER_S)[1] for place in places)
    finally:
        consumer.close()
