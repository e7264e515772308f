"""While more comes than is worked off, who has waited for long is refused early; a burst refuses nobody."""

from collections.abc import Iterator

import msgspec
import pytest
from forebay_jobs.messages import Asker
from forebay_jobs.shedding import StandingQueue
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import Lane, Request

from ..builders import NOW_MS, make_request
from .doubles import an_asker, decided_by
from .test_intake import IntakeRig

HAD_MS = 4_000


def asker(waited_ms: int, now_ms: int, had_ms: int | None = HAD_MS) -> Asker:
    created_ms = now_ms - waited_ms
    deadline_ms = None if had_ms is None else created_ms + had_ms
    return an_asker(make_request(created_ms=created_ms, deadline_ms=deadline_ms))


def read_for(ms: int, waited_ms: int, queue: StandingQueue | None = None) -> Iterator[tuple[StandingQueue, int]]:
    """After each of the requests that are read for so long, one every 10 ms: the queue, and the time. Before them one
    is read at once."""
    queue = queue or StandingQueue()
    queue.read(asker(0, NOW_MS - 500), NOW_MS - 500)
    for now_ms in range(NOW_MS, NOW_MS + ms + 1, 10):
        queue.read(asker(waited_ms, now_ms), now_ms)
        yield queue, now_ms


def last(states: Iterator[tuple[StandingQueue, int]]) -> tuple[StandingQueue, int]:
    *_, state = states
    return state


def test_a_wait_is_too_long_once_all_have_waited_so_for_as_long_as_one_has_in_all() -> None:
    since_ms = NOW_MS - 500
    shed = [now_ms for queue, now_ms in read_for(6_000, 1_100) if queue.sheds(asker(1_100, now_ms), now_ms)]
    assert shed == list(range(since_ms + HAD_MS, NOW_MS + 6_001, 10))


def test_who_has_waited_for_a_quarter_of_the_time_at_most_is_not_refused() -> None:
    queue, now_ms = last(read_for(6_000, 3_000))
    assert not queue.sheds(asker(1_000, now_ms), now_ms)
    assert queue.sheds(asker(1_001, now_ms), now_ms)
    assert not queue.sheds(asker(3_000, now_ms, None), now_ms)
    assert not queue.sheds(asker(3_000, now_ms, 60_000), now_ms)


def test_one_that_was_read_at_once_shows_that_the_others_were_a_burst() -> None:
    queue, now_ms = last(read_for(6_000, 3_000))
    queue.read(asker(100, now_ms), now_ms)
    assert not queue.sheds(asker(3_000, now_ms), now_ms)


def test_one_that_has_much_time_is_no_sign_that_others_do_not_wait_too_long() -> None:
    queue, now_ms = last(read_for(6_000, 3_000))
    queue.read(asker(3_000, now_ms, 600_000), now_ms)
    assert queue.sheds(asker(3_000, now_ms), now_ms)


def test_what_waited_while_nothing_was_read_is_a_burst() -> None:
    """As after an outage of the brokers, long after the last request."""
    queue, now_ms = last(read_for(1_000, 0))
    now_ms += 3_600_000
    queue.read(asker(3_000, now_ms), now_ms)
    assert not queue.sheds(asker(3_000, now_ms), now_ms)


@pytest.mark.parametrize("away_ms", [5_000, 30_000])
def test_what_waited_while_the_job_was_away_is_a_burst(away_ms: int) -> None:
    queue, now_ms = last(read_for(1_000, 0))
    began_ms, now_ms = now_ms, now_ms + away_ms
    for created_ms in range(began_ms, now_ms, 10):  # read as fast as that goes
        now_ms += 1
        waited_ms = now_ms - created_ms
        queue.read(asker(waited_ms, now_ms), now_ms)
        assert not queue.sheds(asker(waited_ms, now_ms), now_ms)


def test_a_job_that_begins_behind_takes_that_for_a_burst() -> None:
    queue = StandingQueue()
    for now_ms in range(NOW_MS, NOW_MS + HAD_MS, 10):
        queue.read(asker(30_000, now_ms), now_ms)
        assert not queue.sheds(asker(3_000, now_ms), now_ms)
    queue.read(asker(3_000, NOW_MS + HAD_MS), NOW_MS + HAD_MS)
    assert queue.sheds(asker(3_000, NOW_MS + HAD_MS), NOW_MS + HAD_MS)


def test_clocks_that_are_behind_are_no_queue() -> None:
    queue = StandingQueue()
    for now_ms in range(NOW_MS, NOW_MS + 20_000, 10):
        queue.read(asker(1_000, now_ms), now_ms)
        assert not queue.sheds(asker(1_900, now_ms), now_ms)


def test_a_clock_that_is_ahead_is_no_sign_that_others_do_not_wait() -> None:
    queue, now_ms = last(read_for(6_000, 3_000))
    queue.read(asker(-2_000, now_ms), now_ms)
    assert queue.sheds(asker(3_000, now_ms), now_ms)


@pytest.mark.parametrize("set_ms", [-3_600_000, 3_600_000])
def test_a_clock_that_was_set_makes_no_queue_of_a_burst(set_ms: int) -> None:
    queue, now_ms = last(read_for(1_000, 3_000))
    now_ms += set_ms
    queue.read(asker(3_000, now_ms), now_ms)
    assert not queue.sheds(asker(3_000, now_ms), now_ms)


class Behind(IntakeRig):
    """An intake that has been behind for longer than a request has in all."""

    now_ms = NOW_MS

    def wait_for_long(self) -> None:
        self.take(make_request(created_ms=self.now_ms), now_ms=self.now_ms)
        for _ in range(60):
            self.now_ms += 100
            self.take(self.request("another question"), now_ms=self.now_ms)

    def request(self, question: str, lane: Lane = Lane.INTERACTIVE) -> Request:
        created_ms = self.now_ms - 3_000
        request = make_request(question, lane=lane, created_ms=created_ms, deadline_ms=created_ms + HAD_MS)
        return msgspec.structs.replace(request, request_id=f"r{self.offset}")


def test_an_intake_that_is_behind_refuses_early_and_says_why() -> None:
    rig = Behind()
    assert rig.arrives(rig.request("a question"), now_ms=rig.now_ms)
    rig.wait_for_long()
    error = rig.answered(rig.request("a question"), now_ms=rig.now_ms).error
    assert error is not None
    assert error.code == ErrorCode.DEADLINE_EXCEEDED
    assert error.message.startswith("deadline_ms: hardly reached")


def test_who_is_refused_holds_batch_requests_back_like_anybody_who_is_not() -> None:
    rig = Behind()
    rig.wait_for_long()
    rig.clock_s += 60
    rig.cache(rig.request("a kept answer"))
    assert not rig.answered(rig.request("a kept answer"), now_ms=rig.now_ms).error
    assert not rig.pressure.busy
    assert rig.answered(rig.request("a question"), now_ms=rig.now_ms).error
    assert rig.pressure.busy


def test_what_is_cached_is_given_however_far_the_intake_is_behind() -> None:
    rig = Behind(decided_by(fresh_s=1))
    rig.wait_for_long()
    request = rig.request("a question")
    rig.cache(request, completed_ms=rig.now_ms - 60_000, text="the kept answer")
    assert rig.answered(request, now_ms=rig.now_ms).text == "the kept answer"


def test_the_batch_lane_is_held_back_on_purpose() -> None:
    rig = Behind()
    rig.wait_for_long()
    request = rig.request("a question", Lane.BATCH)
    assert rig.arrives(request, lane=Lane.BATCH, topic="llm.requests.batch", now_ms=rig.now_ms)
