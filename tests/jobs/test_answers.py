"""The exact cache on a real Redis: what is found again, and that it fails open."""

import math
import time

import msgspec
import pytest
from forebay_jobs.caches.answers import Judged, Lookup
from forebay_jobs.caches.epochs import WHOLE
from forebay_jobs.messages import Cancel
from forebay_schemas.batches import batch_id, row_id
from forebay_schemas.canonical import digests
from forebay_schemas.records import Usage

from tests.builders import NOW_MS, make_request, make_route
from tests.jobs.answer_store import PREFIX, REQUEST, Store, make_request_like, open_answers
from tests.jobs.doubles import an_asker
from tests.redis_server import RedisServer
from tests.waiting import eventually


@pytest.fixture
def store(redis_server: RedisServer) -> Store:
    return Store(redis_server)


def test_an_answer_is_found_as_it_was_kept(store: Store) -> None:
    kept = store.fill(
        REQUEST,
        text="Snow \u2603, and\nlines",
        usage=Usage(prompt_tokens=11, completion_tokens=7, cached_prompt_tokens=3),
        route=make_route(features={"length": 0.25}),
        synthetic=True,
    )
    found = store.found(REQUEST)
    assert found is not None
    assert msgspec.structs.replace(found, lives=1.0) == kept
    assert found is not None
    assert (found.created_ms, found.request_id, found.finish_reason) == (NOW_MS + 250, "request-1", "stop")


def test_nothing_is_found_of_what_was_never_kept_or_is_not_to_be_read(store: Store) -> None:
    assert store.look(REQUEST).answer is None
    store.fill(REQUEST)
    assert store.look(make_request_like(REQUEST), read=False).answer is None
    assert store.look(make_request_like(REQUEST), read=False).epochs == store.epochs(REQUEST)


def test_an_answer_leaves_redis_after_its_time_to_live(store: Store) -> None:
    store.fill(REQUEST)
    assert 50 < store.redis.ttl(store.answer_key(REQUEST)) <= 60


def test_the_rows_of_a_batch_that_was_taken_back_are_known_by_its_id(store: Store) -> None:
    batch = batch_id("ab" * 32)
    before, row = (make_request(request_id=row_id(batch, number)) for number in (1, 2))
    assert not store.look(before).cancelled
    store.store.note_cancelled(Cancel(tenant="acme", request_id=batch, issued_ms=NOW_MS))
    assert store.look(row).cancelled
    assert not store.look(make_request(request_id=row_id(batch_id("cd" * 32), 2))).cancelled
    assert not store.look(make_request(request_id=row_id(batch, 2), tenant="rival")).cancelled


def test_answers_that_came_together_do_not_expire_together(redis_server: RedisServer) -> None:
    store = Store(redis_server, expiry_jitter=0.5)
    asked = [make_request(f"Question {number}?") for number in range(40)]
    for request in asked:
        store.fill(request)
    left_s = [store.redis.pttl(store.answer_key(request)) / 1000 for request in asked]
    assert 29 < min(left_s) < 35 < 55 < max(left_s) <= 60
    for request, left in zip(asked, left_s, strict=True):
        found = store.found(request)
        assert found is not None
        assert found.lives == pytest.approx(left / 60, abs=0.02)  # a shorter limit than Redis holds is shortened too
        limit_ms = round(found.created_ms + 10_000 * found.lives)
        assert found.fresh(limit_ms - 1, 10)
        assert not found.fresh(limit_ms + 1, 10)


def test_one_of_those_that_find_an_answer_too_old_has_it_generated_anew(store: Store) -> None:
    digest = digests(REQUEST).exact
    assert [store.store.claim_refresh(digest) for _ in range(3)] == [True, False, False]
    assert store.store.claim_refresh(digests(make_request()).exact)
    (key,) = store.redis.keys(f"{PREFIX}:refresh:{digest}")
    assert 50 < store.redis.ttl(key) <= 60  # then another one may


# Ids seen before


def test_an_id_is_a_repeat_from_another_record_and_none_from_its_own(store: Store) -> None:
    assert not store.look(REQUEST, origin="requests/0/5").repeated
    assert not store.look(REQUEST, origin="requests/0/5").repeated
    assert store.look(REQUEST, origin="requests/0/6").repeated
    assert store.look(REQUEST, origin="requests/1/5").repeated
    assert not store.look(REQUEST, origin="requests/0/5").repeated


def test_an_id_is_forgotten_after_its_window(redis_server: RedisServer) -> None:
    store = Store(redis_server, seen_ttl_s=77)
    store.look(REQUEST)
    (key,) = store.redis.keys(f"{PREFIX}:seen:*")
    assert 70 < store.redis.ttl(key) <= 77


def test_no_tenant_can_take_an_id_of_another(store: Store) -> None:
    store.look(make_request(tenant="a", request_id="b:c"))
    assert not store.look(make_request(tenant="a:b", request_id="c")).repeated
    assert not store.look(make_request(tenant="1:a", request_id="b:c")).repeated


def test_an_id_that_is_forgotten_may_come_again(store: Store) -> None:
    store.look(REQUEST)
    store.store.forget([an_asker(REQUEST), an_asker(make_request(request_id="never seen"))])
    assert not store.look(REQUEST).repeated
    assert store.look(REQUEST).repeated


# Taken back before they were read


def taken_back(at_ms: int = NOW_MS) -> Cancel:
    return Cancel(tenant="acme", request_id="request-1", issued_ms=at_ms)


def test_a_request_that_is_taken_back_before_it_is_read_is_told_so_however_often_it_is_read(store: Store) -> None:
    store.store.note_cancelled(taken_back())
    (key,) = store.redis.keys(f"{PREFIX}:seen:*")
    assert 80_000 < store.redis.ttl(key) <= 86_400  # a batch request may wait for a day
    for origin in ("requests/0/5", "requests/0/5", "requests/0/6"):
        lookup = store.look(REQUEST, origin=origin)
        assert (lookup.cancelled, lookup.repeated) == (True, False)
    assert not store.look(make_request(tenant="rival")).cancelled


def test_a_request_that_was_read_before_it_is_taken_back_is_left_to_the_desk(store: Store) -> None:
    store.look(REQUEST, origin="requests/0/5")
    store.store.note_cancelled(taken_back())
    assert not store.look(REQUEST, origin="requests/0/5").cancelled
    assert store.look(REQUEST, origin="requests/0/6").repeated


def test_what_was_taken_back_last_night_does_not_stop_tonights_request_of_the_same_id(store: Store) -> None:
    store.store.note_cancelled(taken_back(NOW_MS - 80_000_000))
    lookup = store.look(REQUEST, origin="requests/0/5")
    assert (lookup.cancelled, lookup.repeated) == (False, False)
    assert store.look(REQUEST, origin="requests/0/6").repeated


# Several at once, for the semantic cache


def test_answers_are_fetched_together_each_only_while_it_holds(store: Store) -> None:
    held, invalid, absent = (make_request(question) for question in ("One?", "Two?", "Three?"))
    store.fill(held, text="one")
    epochs = store.epochs(held)
    store.fill(invalid, {**epochs, WHOLE: "old"}, text="two")
    wanted = [(digests(request).exact, epochs) for request in (held, invalid, absent)]
    one, two, three = store.store.fetch(wanted)
    assert one.answer is not None
    assert one.answer.text == "one"
    assert (one.gone, two.gone, three.gone) == (False, True, True)
    assert (two.answer, three.answer) == (None, None)
    assert store.store.fetch([]) == []


def test_what_decides_is_read_without_texts_and_a_text_with_the_note_that_it_is_given(store: Store) -> None:
    request, digest = make_request("One?"), digests(make_request("One?")).exact
    store.fill(request, text="one")
    (decided,) = store.store.fetch([(digest, store.epochs(request))], texts=False)
    assert decided.answer is not None
    assert decided.answer.text == ""
    chosen = [(digest, decided.answer)]
    (given,) = store.store.give(chosen, lambda pipe: store.store.add_notes(pipe, [Judged(digest=digest, hits=1)]))
    assert given is not None
    assert given.text == "one"
    assert store.redis.hget(store.answer_key(request), "hits") == b"1"
    store.fill(request, text="another", request_id="later")
    assert store.store.give(chosen, lambda pipe: None) == [None]  # it was not this one that was decided on


def test_an_answer_whose_giving_cannot_be_noted_is_not_given(store: Store, redis_server: RedisServer) -> None:
    answer = store.fill(REQUEST)
    redis_server.kill()
    assert store.store.give([("0" * 32, answer)], lambda pipe: None) == [None]
    redis_server.start()


# Damage


@pytest.mark.parametrize("value", [b"", b"\xff", b"{}", b"\xc1", b"\x80", b"\x81\xa4text\xa1x"])
def test_a_damaged_entry_counts_as_none_harms_no_other_and_is_replaced(store: Store, value: bytes) -> None:
    store.redis.hset(store.answer_key(REQUEST), "answer", value)
    lookup = store.look(REQUEST)
    assert lookup.answer is None
    assert lookup.epochs is not None  # the answer to come is kept
    assert store.errors() == 0
    (fetched,) = store.store.fetch([(digests(REQUEST).exact, store.epochs(REQUEST))])
    assert fetched.gone
    store.fill(REQUEST)
    assert store.found(REQUEST) is not None


def test_an_entry_of_the_wrong_type_counts_as_none(store: Store) -> None:
    store.redis.rpush(store.answer_key(REQUEST), "a list")
    lookup = store.look(REQUEST)
    assert lookup.answer is None
    assert lookup.epochs is not None


# Without Redis


def test_without_a_server_everything_fails_open_and_comes_back_by_itself(redis_server: RedisServer) -> None:
    store = Store(redis_server)
    kept = store.fill(REQUEST)
    redis_server.kill()
    try:
        assert store.look(REQUEST) == Lookup()
        assert not store.store.keep("0" * 32, kept, 60)
        assert not store.store.claim_refresh("0" * 32)  # the old answer is better than a generation for everyone
        assert [fetched.gone for fetched in store.store.fetch([("0" * 32, {})])] == [False]
        store.store.note_cancelled(taken_back())
        assert store.invalidate(source="prices") is None
        store.store.forget([an_asker(REQUEST)])
        assert (store.up(), store.errors() >= 1) == (0, True)
    finally:
        redis_server.start()
    eventually(lambda: store.look(REQUEST).epochs, "Redis is used again")
    assert store.up() == 1


def test_a_restart_between_two_calls_costs_no_failure(redis_server: RedisServer) -> None:
    store = Store(redis_server)
    store.look(REQUEST)
    redis_server.kill()
    redis_server.start()
    assert store.look(REQUEST).epochs is not None  # the pooled connection was dead
    assert store.errors() == 0


def test_a_server_that_hangs_costs_one_timeout_and_is_then_left_alone(redis_server: RedisServer) -> None:
    server = Store(redis_server)
    hanging = open_answers(redis_server.config(timeout_ms=50, retry_after_ms=600_000), server.metrics)
    redis_server.freeze()
    started = time.monotonic()
    for _ in range(200):
        assert hanging.look(REQUEST, "0" * 32, "requests/0/1", read=True) == Lookup()
    redis_server.thaw()
    assert server.errors() == 1
    assert time.monotonic() - started < 5


def test_the_servers_memory_is_read_when_it_is_asked_for_and_judges_nothing(redis_server: RedisServer) -> None:
    store = Store(redis_server)
    assert store.memory() > 0
    redis_server.kill()
    try:
        assert math.isnan(store.memory())
        assert (store.up(), store.errors()) == (1, 0)
    finally:
        redis_server.start()
    assert store.memory() > 0


def test_a_slow_server_is_used_again_when_it_is_fast(redis_server: RedisServer) -> None:
    store = Store(redis_server, timeout_ms=50)
    store.fill(REQUEST)
    redis_server.freeze()
    assert store.look(REQUEST) == Lookup()
    redis_server.thaw()
    eventually(lambda: store.found(REQUEST), "the answer is found again")


def test_a_server_that_refuses_writes_is_away(store: Store) -> None:
    store.redis.config_set("maxmemory", "1")
    store.redis.config_set("maxmemory-policy", "noeviction")
    try:
        assert store.look(REQUEST) == Lookup()
    finally:
        store.redis.config_set("maxmemory", "0")
    eventually(lambda: store.look(REQUEST).epochs, "Redis is used again")
