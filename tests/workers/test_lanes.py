"""Interactive tasks come first and batch ones fill what is left; never more tasks are held than there is room for."""

import asyncio

import msgspec
from forebay_schemas.records import Lane
from forebay_workers.lanes import Delivery, Line, Room
from hypothesis import given
from hypothesis import strategies as st

from ..builders import NOW_MS, make_request
from .doubles import delivery

HOUR_MS = 3_600_000.0


def task(lane: Lane = Lane.INTERACTIVE, *, partition: int = 0, priority: int = 0, age_ms: float = 0) -> Delivery:
    one = delivery(lane=lane, partition=partition)
    request = make_request(lane=lane)
    one.request = msgspec.structs.replace(request, priority=priority, created_ms=round(NOW_MS - age_ms))
    return one


def line(concurrency: int = 2, *waiting: Delivery, beside: int = 0, resume_after_ms: float = 0) -> Line:
    made = Line(concurrency, beside, resume_after_ms, HOUR_MS)
    for one in waiting:
        made.add(one)
    return made


def test_no_more_generations_start_than_the_model_runs_at_once() -> None:
    tasks = [task() for _ in range(3)]
    queue = line(2, *tasks)
    assert queue.moves(NOW_MS).start == tasks[:2]
    assert queue.moves(NOW_MS).start == []
    queue.ended(tasks[0])
    assert queue.moves(NOW_MS).start == tasks[2:]


def test_higher_priority_comes_first_and_then_the_order_of_arrival() -> None:
    low, first, second, high = task(priority=-1), task(), task(), task(priority=5)
    assert line(4, low, first, second, high).moves(NOW_MS).start == [high, first, second, low]


def test_batch_tasks_fill_a_model_that_has_nothing_else_to_do() -> None:
    tasks = [task(Lane.BATCH) for _ in range(5)]
    assert line(4, *tasks).moves(NOW_MS).start == tasks[:4]


def test_batch_generations_rest_while_an_interactive_one_runs() -> None:
    batch = [task(Lane.BATCH), task(Lane.BATCH)]
    queue = line(2, *batch)
    queue.moves(NOW_MS)
    urgent = task()
    queue.add(urgent)
    moves = queue.moves(NOW_MS)
    assert (moves.start, moves.hold, moves.release) == ([urgent], batch, [])
    assert queue.held == 2
    queue.ended(urgent)
    moves = queue.moves(NOW_MS)
    assert (moves.start, moves.hold, moves.release) == ([], [], batch)
    assert queue.held == 0


def test_batch_work_goes_on_only_after_a_moment_without_interactive_work() -> None:
    resting, waiting = task(Lane.BATCH), task(Lane.BATCH)
    queue = line(2, resting, resume_after_ms=50)
    queue.moves(NOW_MS)
    queue.add(waiting)
    for begin_ms in (NOW_MS, NOW_MS + 70):
        queue.add(urgent := task())
        moves = queue.moves(begin_ms)
        assert moves.start == [urgent]
        assert moves.again_ms is None
        queue.ended(urgent)
        moves = queue.moves(begin_ms + 30)
        assert (moves.start, moves.release, moves.again_ms) == ([], [], 50)
        assert queue.moves(begin_ms + 60).again_ms == 20
    moves = queue.moves(NOW_MS + 70 + 80)
    assert (moves.start, moves.release, moves.again_ms) == ([waiting], [resting], None)


def test_nothing_is_foreseen_where_no_batch_work_waits() -> None:
    queue = line(2, urgent := task(), resume_after_ms=50)
    queue.moves(NOW_MS)
    queue.ended(urgent)
    assert queue.moves(NOW_MS + 30).again_ms is None


def test_some_batch_generations_may_go_on_beside_interactive_ones_the_oldest_first() -> None:
    batch = [task(Lane.BATCH) for _ in range(4)]
    queue = line(4, *batch, beside=1)
    queue.moves(NOW_MS)
    queue.add(urgent := task())
    assert queue.moves(NOW_MS).hold == batch[1:]
    for one in [task(), task(), task()]:
        queue.add(one)
    moves = queue.moves(NOW_MS)
    assert (len(moves.start), moves.hold) == (3, batch[:1]), "interactive tasks take every place"
    queue.ended(urgent)
    assert queue.moves(NOW_MS).release == batch[:1]


def test_a_resting_generation_comes_before_a_new_one() -> None:
    old, new, urgent = task(Lane.BATCH), task(Lane.BATCH), task()
    queue = line(1, old)
    queue.moves(NOW_MS)
    queue.add(urgent)
    queue.moves(NOW_MS)
    queue.add(new)
    queue.ended(urgent)
    moves = queue.moves(NOW_MS)
    assert (moves.release, moves.start) == ([old], [])


def test_a_batch_task_near_the_end_of_its_window_counts_as_interactive() -> None:
    urgent = task()
    queue = line(2, urgent, old := task(Lane.BATCH, age_ms=HOUR_MS + 1), young := task(Lane.BATCH))
    assert queue.moves(NOW_MS).start == [urgent, old]
    queue.ended(urgent)
    assert queue.moves(NOW_MS).start == [], "the raised one holds the lane now"
    later = NOW_MS + HOUR_MS + 1
    assert queue.moves(later).start == [young]


def test_a_resting_generation_goes_on_once_its_window_nears_its_end() -> None:
    queue = line(2, batch := task(Lane.BATCH))
    queue.moves(NOW_MS)
    queue.add(task())
    assert queue.moves(NOW_MS).hold == [batch]
    assert queue.moves(NOW_MS + HOUR_MS + 1).release == [batch]


def test_where_nothing_new_may_start_what_rests_goes_on() -> None:
    queue = line(2, batch := task(Lane.BATCH))
    queue.moves(NOW_MS)
    queue.add(task())
    queue.moves(NOW_MS)
    assert queue.rouse() == [batch]
    assert queue.held == 0


def test_waiting_tasks_can_be_removed_and_the_others_keep_their_order() -> None:
    tasks = [task(partition=number % 2) for number in range(6)]
    queue = line(6, *tasks)
    assert queue.remove(lambda one: one.partition == ("llm.tier.small", 1)) == tasks[1::2]
    assert queue.moves(NOW_MS).start == tasks[::2]


@given(
    st.lists(st.sampled_from(["interactive", "batch", "end", "look"]), max_size=60),
    st.integers(1, 4),
    st.integers(0, 2),
)
def test_the_model_is_never_overfull_nor_idle_while_something_waits(
    happens: list[str], places: int, beside: int
) -> None:
    queue = line(places, beside=beside)
    going: set[Delivery] = set()
    held: set[Delivery] = set()
    waiting = 0
    for what in happens:
        if what == "end" and going:
            ended = min(going, key=id)
            going.discard(ended)
            queue.ended(ended)
        elif what in ("interactive", "batch"):
            queue.add(task(Lane(what)))
            waiting += 1
        moves = queue.moves(NOW_MS)
        waiting -= len(moves.start)
        assert set(moves.hold) <= going
        assert set(moves.release) <= held
        going = (going - set(moves.hold)) | set(moves.start) | set(moves.release)
        held = (held | set(moves.hold)) - set(moves.release)
        assert len(going) <= places
        assert going or not (waiting or held)
        if any(one.lane is Lane.INTERACTIVE for one in going):
            assert sum(one.lane is Lane.BATCH for one in going) <= beside
        assert queue.held == len(held)


async def test_a_place_is_waited_for_and_given_back() -> None:
    room = Room(1)
    assert await room.wait(1)
    room.take()
    assert not await room.wait(0.001)
    waiting = asyncio.create_task(room.wait(60))
    await asyncio.sleep(0)
    room.give_back()
    assert await waiting


async def test_a_closed_room_has_no_place() -> None:
    room = Room(5)
    room.close()
    assert not await room.wait(0.001)
