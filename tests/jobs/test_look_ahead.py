"""What the desk does while questions are looked up by meaning, and what it is told of them."""

import pytest
from forebay_jobs.caches.answers import Answer
from forebay_schemas.records import CacheStatus, Lane

from tests.builders import NOW_MS, make_reply, make_request

from .doubles import DeskRig, PoolByHand, configured, is_task, only_task, statuses, task_of

KNOWN, NEW = "How do I return a parcel?", "When do you open?"


@pytest.fixture
def pool() -> PoolByHand:
    return PoolByHand()


@pytest.fixture
def rig(pool: PoolByHand) -> DeskRig:
    rig = DeskRig(configured(embedding={"batch": 2}, desk={"waiting": 4}), pool)
    rig.meaning.known[KNOWN] = Answer.of(make_reply(), {}, None)
    return rig


def test_the_desk_goes_on_while_questions_are_looked_up(rig: DeskRig, pool: PoolByHand) -> None:
    rig.arrive(make_request("Where is my order?", request_id="before"))
    rig.tick()
    pool.work()
    task = only_task(rig.tick())
    rig.arrive(make_request(KNOWN, request_id="known"))
    rig.arrive(make_request(NEW, request_id="new"))
    assert rig.tick() == []
    rig.arrive(make_request("Where is my order?", request_id="follower"))
    assert statuses(rig.settle(task)) == {"follower": CacheStatus.JOINED}
    assert rig.tick() == []
    pool.work()
    hit, dispatched = rig.tick()
    assert statuses([hit]) == {"known": CacheStatus.SEMANTIC}
    assert task_of(dispatched).reply_key == "key-new"
    assert rig.tick() == []


def test_what_comes_meanwhile_is_the_next_batch_interactive_requests_first(rig: DeskRig, pool: PoolByHand) -> None:
    def arrive(name: str, lane: Lane) -> None:
        rig.arrive(make_request(f"{KNOWN} {name}", request_id=name, lane=lane))

    arrive("first", Lane.INTERACTIVE)
    rig.tick()
    for name in ("night-1", "night-2"):
        arrive(name, Lane.BATCH)
    arrive("day", Lane.INTERACTIVE)
    waves: list[list[str]] = []
    while pool.given:
        pool.work()
        waves.append([task_of(one).reply_key for one in rig.tick()])
    assert waves == [["key-first"], ["key-day", "key-night-1"], ["key-night-2"]]
    assert rig.meaning.batches == [1, 2, 1]


def test_as_many_batches_are_looked_up_at_a_time_as_the_embedder_takes_calls(pool: PoolByHand) -> None:
    rig = DeskRig(configured(embedding={"batch": 2, "calls": 2}), pool)
    for number in range(5):
        rig.arrive(make_request(f"{NEW} {number}", request_id=f"request-{number}"))
    assert rig.tick() == []
    first, second = pool.given
    pool.given.clear()
    second()
    assert {task_of(one).reply_key for one in rig.tick()} == {"key-request-2", "key-request-3"}
    pool.work()
    assert only_task(rig.tick()).reply_key == "key-request-4"
    first()
    assert {task_of(one).reply_key for one in rig.tick()} == {"key-request-0", "key-request-1"}
    assert rig.tick() == []
    assert rig.meaning.batches == [2, 1, 2]


def test_more_than_may_wait_come_to_the_desk_as_others_were_looked_up(rig: DeskRig) -> None:
    rig.pool = None
    rig.desk = rig.a_desk()
    for number in range(7):
        rig.arrive(make_request(f"{NEW} {number}", request_id=f"request-{number}"))
    assert rig.meaning.batches == [2, 2]
    assert [task_of(one).reply_key for one in rig.tick()] == [f"key-request-{number}" for number in range(7)]


def test_batch_requests_are_held_back_for_as_long_as_more_than_half_of_the_room_is_taken(
    rig: DeskRig, pool: PoolByHand
) -> None:
    for number in range(3):  # two of them in the batch under way
        rig.arrive(make_request(f"{NEW} {number}", request_id=f"request-{number}"))
    rig.tick()
    rig.tick(after_ms=3_000)
    assert not rig.pressure.crowded
    for number in range(3, 5):
        rig.arrive(make_request(f"{NEW} {number}", request_id=f"request-{number}"))
    assert rig.pressure.crowded
    rig.tick(after_ms=3_000)
    assert rig.pressure.crowded
    pool.work()
    rig.tick(after_ms=3_000)
    assert not rig.pressure.crowded


def test_one_that_is_too_late_is_told_so_before_its_turn_and_not_looked_up(rig: DeskRig, pool: PoolByHand) -> None:
    rig.arrive(make_request(NEW, request_id="new"))
    rig.tick()
    rig.arrive(make_request(KNOWN, request_id="hasty", deadline_ms=NOW_MS + 3))
    rig.arrive(make_request(f"{NEW} Today?", request_id="patient"))
    pool.work()
    sent = rig.tick(after_ms=5)
    assert statuses(sent) == {"hasty": "deadline_exceeded"}
    assert [task_of(one).reply_key for one in sent if is_task(one)] == ["key-new"]
    pool.work()
    assert only_task(rig.tick()).reply_key == "key-patient"
    assert rig.meaning.batches == [1, 1]
    looks = rig.state.looks
    rig.tick()
    assert rig.state.looks == looks, "nothing is left that would have to be asked after"


def test_one_that_asks_no_question_waits_for_none(rig: DeskRig, pool: PoolByHand) -> None:
    rig.arrive(make_request(NEW, request_id="new"))
    rig.tick()
    rig.arrive(make_request("Go on.", request_id="bypass"), question=None)
    assert only_task(rig.tick()).reply_key == "key-bypass"
    pool.work()
    assert only_task(rig.tick()).reply_key == "key-new"


def test_what_was_found_for_one_that_was_taken_back_is_nobody_elses(rig: DeskRig, pool: PoolByHand) -> None:
    for name in ("leader", "follower"):
        rig.arrive(make_request(KNOWN, request_id=name))
    rig.tick()
    assert statuses(rig.cancel("leader")) == {"leader": "cancelled"}
    pool.work()
    assert rig.tick() == []
    pool.work()
    assert statuses(rig.tick()) == {"follower": CacheStatus.SEMANTIC}
    assert rig.meaning.batches == [1, 1]


@pytest.mark.parametrize("looked_up", [False, True])
def test_one_that_was_taken_back_leaves_nothing(rig: DeskRig, pool: PoolByHand, looked_up: bool) -> None:
    rig.arrive(make_request(KNOWN, request_id="leader"))
    rig.tick()
    if looked_up:
        pool.work()
    assert statuses(rig.cancel("leader")) == {"leader": "cancelled"}
    if not looked_up:
        pool.work()
    rig.forget_all()
    assert rig.state.empty


def test_a_job_that_is_set_back_has_them_looked_up_again(rig: DeskRig, pool: PoolByHand) -> None:
    rig.arrive(make_request(KNOWN, request_id="known"))
    rig.tick()
    rig.state, rig.desk = rig.state.copy(), rig.a_desk()
    pool.given.clear()
    assert rig.tick() == []
    pool.work()
    assert statuses(rig.tick()) == {"known": CacheStatus.SEMANTIC}
