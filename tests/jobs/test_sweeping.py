"""The sweeper over a real Redis and the embedded index: what goes, what stays, and whose turn it is."""

import math
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forebay_jobs.caches import sweeping
from forebay_jobs.caches.answers import Answer, AnswerStore, Judged, Worth
from forebay_jobs.caches.questions import EdgeIndex, Indexed, Question, ServerIndex, SweepableIndex
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.caches.sweeping import Sweeper, Swept, least_worth
from forebay_schemas.sections import SemanticConfig

from tests.builders import NOW_MS, make_reply
from tests.jobs.doubles import metrics
from tests.redis_server import RedisServer

pytest.importorskip("qdrant_edge", reason="qdrant-edge-py is not installed")

HOUR_MS = 3_600_000


class Rig:
    """A sweeper with an index and a Redis of its own."""

    def __init__(self, server: RedisServer, index: SweepableIndex, **settings: Any) -> None:
        self.metrics = metrics()
        config = server.config(retry_after_ms=10)
        config = config.model_copy(update={"semantic": SemanticConfig(**settings)})
        store = RedisStore(config, self.metrics)
        self.redis = server.client()
        self.prefix = store.prefix
        self.index = index
        self.now_ms = NOW_MS
        self.sweeper = Sweeper(config, index, AnswerStore(config, store), store, self.metrics)

    def add(self, *numbers: int, hits: int = 0, saved: float = 0.0, age_h: float = 0.0) -> None:
        """Questions with their answers."""
        for number in numbers:
            self.question(number, age_h)
            fields = {"answer": b"", "hits": hits, "saved": saved}
            self.redis.hset(f"{self.prefix}:answer:{number:032x}", mapping=fields)

    def question(self, number: int, age_h: float = 0.0) -> None:
        """One whose answer is gone."""
        created_ms = self.now_ms - round(age_h * HOUR_MS)
        asked = Question(
            digest=f"{number:032x}", context="here", category="default", tenant="acme", created_ms=created_ms
        )
        self.index.add(asked, np.array([1, 0, 0], dtype=np.float32))

    def sweep(self) -> Swept:
        return self.sweeper.sweep(self.now_ms)

    def left(self) -> list[int]:
        return [int(one.digest, 16) for one in self.index.page(None, 10_000).questions]

    def counted(self, reason: str) -> float:
        return self.metrics.swept.labels(reason)._value.get()


def _edge(folder: Path) -> SweepableIndex:
    return EdgeIndex(folder, 3, SemanticConfig())


def _local(folder: Path) -> SweepableIndex:
    from qdrant_client import QdrantClient

    return ServerIndex(QdrantClient(":memory:"), "test", 3, SemanticConfig())


@pytest.fixture(params=[pytest.param(_edge, id="edge"), pytest.param(_local, id="client's local mode")])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SweepableIndex]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Payload indexes have no effect in the local Qdrant")
        opened = request.param(tmp_path)
        yield opened
    opened.close()


def test_questions_go_with_their_answers(redis_server: RedisServer, index: SweepableIndex) -> None:
    rig = Rig(redis_server, index)
    rig.add(1, 3)
    for number in (0, 2, 4):
        rig.question(number)
    assert rig.sweep() == Swept(seen=5, expired=3)
    assert rig.left() == [1, 3]
    assert rig.sweep() == Swept(seen=2)
    assert (rig.counted("expired"), rig.counted("evicted")) == (3, 0)


def test_a_question_goes_when_its_answer_is_too_old_for_similar_ones_though_not_for_equal_ones(
    redis_server: RedisServer, index: SweepableIndex
) -> None:
    rig = Rig(redis_server, index)
    rig.add(1, age_h=23.9)
    rig.add(2, age_h=24)
    assert rig.sweep() == Swept(seen=2, expired=1)
    assert rig.left() == [1]


def test_beyond_the_bound_those_go_that_save_least_for_their_age(
    redis_server: RedisServer, index: SweepableIndex
) -> None:
    rig = Rig(redis_server, index, max_entries=4)
    rig.add(0, 1, age_h=20)
    rig.add(2, hits=9, saved=0.9, age_h=20)
    rig.add(3, hits=1, saved=0.1, age_h=2)
    rig.add(4)
    rig.add(5, age_h=1)
    rig.question(6)
    assert rig.sweep() == Swept(seen=7, expired=1, evicted=2)
    assert rig.left() == [2, 3, 4, 5]
    assert rig.sweep() == Swept(seen=4)


def test_each_page_gives_up_its_share_and_what_expired_counts(
    redis_server: RedisServer, index: SweepableIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "PAGE", 4)
    monkeypatch.setattr(sweeping, "_BUSY_SHARE", 1)
    rig = Rig(redis_server, index, max_entries=9)
    rig.add(*range(0, 12, 2), hits=1, saved=0.01, age_h=1)
    rig.add(*range(1, 12, 2), age_h=1)
    rig.question(12)
    assert rig.sweep() == Swept(seen=13, expired=1, evicted=3)
    gone = set(range(13)) - set(rig.left())
    assert [len(gone & set(range(begin, begin + 4))) for begin in (0, 4, 8, 12)] == [1, 1, 1, 1]
    assert all(number % 2 or number == 12 for number in gone)


def test_while_redis_is_away_nothing_is_gone(redis_server: RedisServer, index: SweepableIndex) -> None:
    rig = Rig(redis_server, index, max_entries=1)
    rig.add(1)
    rig.question(2)
    redis_server.kill()
    try:
        assert rig.sweep() == Swept()
        assert rig.left() == [1, 2]
    finally:
        redis_server.start()


def test_a_redis_that_goes_away_between_the_pages_ends_the_pass(
    redis_server: RedisServer, index: SweepableIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(redis_server, index)
    rig.question(1)
    monkeypatch.setattr(AnswerStore, "worth", lambda self, digests: None)
    assert rig.sweep() == Swept()
    assert rig.left() == [1]


def test_of_processes_that_share_an_index_one_sweeps_an_interval(
    redis_server: RedisServer, index: SweepableIndex
) -> None:
    one, other = Rig(redis_server, index), Rig(redis_server, index)
    one.add(1)
    one.question(2)
    assert one.sweep().expired == 1
    one.question(3)
    assert other.sweep() == Swept()
    assert one.sweep() == Swept(seen=2, expired=1)  # the one that has the turn keeps it
    one.redis.delete(*one.redis.keys("*:sweeper:*"))  # as it does an interval after the last page
    assert other.sweep() == Swept(seen=1)
    assert one.sweep() == Swept()
    (key,) = one.redis.keys("*:sweeper:*")
    assert 50 < one.redis.ttl(key) <= 60


def test_what_an_answer_was_good_for_is_told_and_damaged_counts_are_none(redis_server: RedisServer) -> None:
    config, redis = redis_server.config(), redis_server.client()
    store = AnswerStore(config, RedisStore(config, metrics()))
    one, damaged, other_type, gone = (f"{number:032x}" for number in range(4))
    store.keep(one, Answer.of(make_reply(), {}), 60)
    assert store.worth([one]) == [Worth()]
    store.note([Judged(digest=one, hits=1, saved_usd=0.25), Judged(digest=one, hits=2, saved_usd=0.5)])
    (key,) = redis.keys(f"*:answer:{one}")
    redis.hset(key.replace(one.encode(), damaged.encode()), mapping={"answer": b"", "hits": "many", "saved": "x"})
    redis.set(key.replace(one.encode(), other_type.encode()), b"no hash")
    assert store.worth([one, damaged, other_type, gone]) == [Worth(hits=3, saved_usd=0.75), Worth(), None, None]
    assert store.worth([]) == []


def known(number: int, age_h: float, saved_usd: float = 0.0, hits: int = 0) -> tuple[Indexed, Worth]:
    indexed = Indexed(digest=str(number), category="default", created_ms=NOW_MS - round(age_h * HOUR_MS))
    return indexed, Worth(hits=hits, saved_usd=saved_usd)


def worst_first(*questions: tuple[Indexed, Worth]) -> list[str]:
    return least_worth(questions, len(questions), NOW_MS)


def test_what_is_new_has_its_chance_and_what_is_not_asked_for_sinks() -> None:
    saves, new, young, old = known(1, 24, 1.0, 50), known(2, 0), known(3, 3), known(4, 48)
    assert worst_first(saves, new, young, old) == ["4", "3", "2", "1"]


def test_one_early_hit_does_not_outweigh_steady_ones() -> None:
    assert worst_first(known(1, 1, 0.01), known(2, 100, 3.0), known(3, 100, 0.01)) == ["3", "1", "2"]


def test_where_nothing_costs_anything_hits_count_and_then_age() -> None:
    assert worst_first(known(1, 5, hits=2), known(2, 5), known(3, 9)) == ["3", "2", "1"]
    assert worst_first(known(1, 5), known(2, 9), known(3, 0)) == ["2", "1", "3"]
    assert worst_first(known(1, -5), known(2, 0)) in (["1", "2"], ["2", "1"])  # a clock that is ahead


def test_as_many_go_as_were_asked_for() -> None:
    questions = [known(number, number) for number in range(5)]
    assert least_worth(questions, 2, NOW_MS) == ["4", "3"]
    assert least_worth(questions, 0, NOW_MS) == least_worth(questions, -3, NOW_MS) == least_worth([], 3, NOW_MS) == []


# In the background


def test_the_thread_sweeps_optimises_survives_failures_and_ends(
    redis_server: RedisServer, index: SweepableIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(redis_server, index, sweep_interval_s=1)
    rig.now_ms = int(time.time() * 1000)
    rig.add(1)
    rig.question(2)
    optimised = threading.Event()
    page = index.page
    pages = iter([RuntimeError("away for a moment")])

    def failing_once(begin: str | None, limit: int) -> Any:
        for error in pages:
            raise error
        return page(begin, limit)

    monkeypatch.setattr(index, "page", failing_once)
    monkeypatch.setattr(index, "optimise", lambda stop: optimised.set())
    rig.sweeper.start()
    try:
        assert optimised.wait(20)
    finally:
        rig.sweeper.close()
    assert rig.left() == [1]
    assert rig.metrics.store_errors.labels("qdrant")._value.get() == 1
    assert "sweeper" not in {thread.name for thread in threading.enumerate()}


def test_the_index_tells_its_size_when_it_is_asked(redis_server: RedisServer, tmp_path: Path) -> None:
    rig = Rig(redis_server, _edge(tmp_path))
    rig.add(1, 2)

    def told() -> float:
        (metric,) = rig.metrics.entries.collect()
        return metric.samples[0].value

    assert told() == 2
    rig.index.close()
    assert math.isnan(told())
