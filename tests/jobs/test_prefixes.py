"""How hot a static prefix is, counted on a real Redis, and over how many keys it is spread."""

from typing import Any

import pytest
from forebay_jobs.caches.prefixes import PrefixRates, spread_of
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.messages import Arrival
from forebay_schemas.records import Lane

from tests.builders import NOW_MS, make_request, system
from tests.jobs.doubles import an_arrival, configured, metrics
from tests.redis_server import RedisServer


@pytest.mark.parametrize(
    ("per_min", "keys"), [(0, 1), (100, 1), (101, 2), (200, 2), (201, 4), (401, 6), (10**9, 6)], ids=str
)
def test_the_spread_grows_in_powers_of_two_up_to_the_partitions(per_min: int, keys: int) -> None:
    assert spread_of(per_min, 100, 6) == keys


def rates(server: RedisServer) -> PrefixRates:
    config = configured(desk={"hot_prefix_per_min": 10}, redis=dict(server.config().redis))
    return PrefixRates(config, RedisStore(config, metrics()))


def leaders(count: int, minute: int, **fields: Any) -> list[Arrival]:
    values = {"static_messages": [system("Be brief.")], "created_ms": NOW_MS + 60_000 * minute, **fields}
    return [an_arrival(make_request(request_id=f"{minute}/{number}", **values)) for number in range(count)]


def test_a_prefix_is_spread_by_what_was_asked_in_the_minute_before(redis_server: RedisServer) -> None:
    counted = rates(redis_server)
    assert set(counted.spreads(leaders(35, minute=0))) == {1}
    assert set(counted.spreads(leaders(3, minute=1))) == {4}
    assert set(counted.spreads(leaders(1, minute=2))) == {1}


def test_the_same_leaders_again_count_once_and_get_the_same_spread(redis_server: RedisServer) -> None:
    counted = rates(redis_server)
    for _ in range(5):
        counted.spreads(leaders(15, minute=0))
    for _ in range(2):
        assert set(counted.spreads(leaders(3, minute=1))) == {2}


def test_prefixes_are_counted_apart_and_requests_without_one_or_on_the_batch_lane_not_at_all(
    redis_server: RedisServer,
) -> None:
    counted = rates(redis_server)
    counted.spreads(leaders(15, minute=0))
    mixed = [*leaders(1, minute=1, static_messages=[]), *leaders(1, minute=1, static_messages=[system("Rhyme.")])]
    assert counted.spreads([*mixed, *leaders(1, minute=1)]) == [1, 1, 2]
    before = set(redis_server.client().keys())
    assert counted.spreads(leaders(15, minute=0, static_messages=[])) == [1] * 15
    assert counted.spreads(leaders(15, minute=1, lane=Lane.BATCH)) == [1] * 15
    assert counted.spreads([]) == []
    assert set(redis_server.client().keys()) == before


def test_counts_leave_redis_by_themselves(redis_server: RedisServer) -> None:
    rates(redis_server).spreads(leaders(1, minute=0))
    (key,) = redis_server.client().keys()
    assert 0 < redis_server.client().ttl(key) <= 900


def test_without_redis_no_prefix_is_hot(redis_server: RedisServer) -> None:
    counted = rates(redis_server)
    counted.spreads(leaders(15, minute=0))
    redis_server.kill()
    try:
        assert counted.spreads(leaders(2, minute=1)) == [1, 1]
    finally:
        redis_server.start()
