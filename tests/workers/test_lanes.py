"""Interactive tasks come first and batch ones fill what is left; never more tasks are held than there is room for."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from forebay_schemas.records import Lane
from forebay_workers.generation import is_structured
from forebay_workers.lanes import ASIDE, PRESSED_MS, Delivery, Kind, Line, Room
from forebay_workers.windows import Window
from hypothesis import given
from hypothesis import strategies as st

from ..builders import NOW_MS, make_request
from .doubles import delivery

JSON = '{"type": "json_object"}'
HOUR_MS = 3_600_000.0
WINDOW = Window(2 * HOUR_MS, HOUR_MS)


def only(**places: int) -> Callable[[Kind], int]:
    """Models that take so many generations, by name."""
    return lambda kind: places[kind.model]


def unlimited(_: Kind) -> int:
    """Each model takes whatever it is given."""
    return 1_000


def task(
    lane: Lane = Lane.INTERACTIVE,
    *,
    tier: str = "small",
    model: str | None = None,
    partition: int = 0,
    priority: int = 0,
    age_ms: float = 0,
    left_ms: float | None = None,
    structured: bool = False,
) -> Delivery:
    one = delivery(tier=tier, lane=lane, partition=partition)
    one.key = model.encode() if model else None
    request = make_request(lane=lane, response_format=JSON if structured else None)
    deadline_ms = None if left_ms is None else round(NOW_MS + left_ms)
    one.request = msgspec.structs.replace(
        request, priority=priority, created_ms=round(NOW_MS - age_ms), deadline_ms=deadline_ms
    )
    return one


def line(concurrency: int = 2, *waiting: Delivery, beside: int = 0, resume_after_ms: float = 0) -> Line:
    """The line of a model whose structured answers cannot rest. A task asks the model named by its key, or its tier."""

    def kind(one: Delivery) -> Kind:
        model = one.key.decode() if one.key else one.tier
        return Kind(one.tier, model, not is_structured(one.request))

    made = Line(concurrency, beside, resume_after_ms, WINDOW, kind)
    for one in waiting:
        made.add(one)
    return made


def test_no_more_generations_start_than_the_model_runs_at_once() -> None:
    tasks = [task() for _ in range(3)]
    queue = line(2, *tasks)
    assert queue.moves(NOW_MS, unlimited).start == tasks[:2]
    assert queue.moves(NOW_MS, unlimited).start == []
    queue.ended(tasks[0], answered=True)
    assert queue.moves(NOW_MS, unlimited).start == tasks[2:]


def test_higher_priority_comes_first_and_then_the_order_of_arrival() -> None:
    low, first, second, high = task(priority=-1), task(), task(), task(priority=5)
    assert line(4, low, first, second, high).moves(NOW_MS, unlimited).start == [high, first, second, low]


def hopeless(*waiting: Delivery, running: int = 1, lane: Lane = Lane.INTERACTIVE) -> list[Delivery]:
    """Those of the waiting tasks that are refused at a model of one place whose answers take 100 ms, or a second."""
    queue = line(1, *(task(lane) for _ in range(running)))
    for ms in (*[100.0] * 7, *[1_000.0] * 3):
        queue.took(task(), ms)
    queue.moves(NOW_MS, unlimited)
    for one in waiting:
        queue.add(one)
    return queue.hopeless(NOW_MS)


def test_who_has_too_little_time_left_gets_no_place_that_others_want_too() -> None:
    waited = task(age_ms=4_500, left_ms=900)
    assert hopeless(waited, task(age_ms=4_500, left_ms=1_100), task(age_ms=9_000)) == [waited]


def test_who_has_little_time_is_not_refused_before_half_of_it_is_over() -> None:
    assert hopeless(task(age_ms=200, left_ms=300)) == []
    assert hopeless(hurried := task(age_ms=300, left_ms=200)) == [hurried]


def wanted_for(ms: float, *waiting: Delivery, answers_take_ms: float = 100.0) -> list[Delivery]:
    """Those that are refused once a model of one place has been wanted for so long."""
    queue = line(1, task())
    for _ in range(10):
        queue.took(task(), answers_take_ms)
    queue.moves(NOW_MS, unlimited)
    queue.add(patient := task(left_ms=60_000))
    since_ms = 0.0
    while since_ms < ms:
        assert queue.hopeless(NOW_MS - ms + since_ms) == []
        since_ms += PRESSED_MS / 2
    queue.remove(lambda one: one is patient)
    for one in waiting:
        queue.add(one)
    return queue.hopeless(NOW_MS)


def test_who_waited_for_half_of_the_time_is_refused_once_that_goes_on_for_longer_than_a_burst() -> None:
    waited, fresh = task(age_ms=2_600, left_ms=2_400), task(age_ms=2_400, left_ms=2_600)
    assert wanted_for(5_000, waited, fresh) == [waited]
    assert wanted_for(4_900, waited, fresh) == []


def test_who_has_much_time_waits_for_half_of_it_where_others_have_little() -> None:
    assert wanted_for(5_000, task(age_ms=6_000, left_ms=4_000)) == []


def test_answers_that_take_more_than_half_of_the_time_are_begun_in_time_or_not_at_all() -> None:
    waited, fresh = task(age_ms=1_100, left_ms=3_900), task(age_ms=900, left_ms=4_100)
    assert wanted_for(5_000, waited, fresh, answers_take_ms=4_000) == [waited]


def test_a_model_that_is_too_slow_for_all_is_still_tried() -> None:
    assert wanted_for(5_000, task(age_ms=900, left_ms=4_100), answers_take_ms=6_000) == []


def test_a_free_place_is_given_however_little_time_is_left() -> None:
    assert hopeless(task(age_ms=4_990, left_ms=10), running=0) == []


def test_a_place_that_batch_work_yields_counts_as_free() -> None:
    assert hopeless(task(age_ms=4_990, left_ms=10), lane=Lane.BATCH) == []


def test_a_model_is_wanted_for_a_moment_longer_than_its_places_are_taken() -> None:
    queue = line(1, running := task())
    for _ in range(10):
        queue.took(running, 100)
    queue.moves(NOW_MS, unlimited)
    queue.add(waiting := task(left_ms=5_000))
    assert queue.hopeless(NOW_MS) == []
    queue.ended(running, answered=True)
    queue.remove(lambda one: one is waiting)
    queue.add(task(age_ms=500, left_ms=50))
    assert len(queue.hopeless(NOW_MS + PRESSED_MS / 2)) == 1
    queue.add(task(age_ms=500, left_ms=50))
    assert queue.hopeless(NOW_MS + PRESSED_MS) == []


def test_what_was_cut_short_tells_that_answers_take_longer_and_never_that_they_are_quick() -> None:
    queue = line(1, task())
    queue.moves(NOW_MS, unlimited)
    for ms in [1_000.0] * 10:
        queue.took(task(), ms)
    for _ in range(60):
        queue.took(task(), 10, cut_short=True)
    queue.add(waited := task(age_ms=5_000, left_ms=900))
    assert queue.hopeless(NOW_MS) == [waited]


def test_none_begins_beside_interactive_ones_that_have_found_no_place_for_a_while() -> None:
    batch = task(Lane.BATCH)
    queue = line(2, first := task(), task(), waiting := task(), beside=2)
    queue.moves(NOW_MS, unlimited)
    for since_ms in (0, PRESSED_MS / 2, PRESSED_MS):
        queue.hopeless(NOW_MS + since_ms)
    queue.remove(lambda one: one is waiting)
    queue.ended(first, answered=True)
    queue.add(batch)
    assert queue.moves(NOW_MS + 1.5 * PRESSED_MS, unlimited).start == []
    assert queue.moves(NOW_MS + 2 * PRESSED_MS, unlimited).start == [batch]


def test_one_for_which_a_place_is_free_is_refused_only_where_its_time_is_hardly_enough() -> None:
    queue = line(2, first := task(), task())
    for _ in range(10):
        queue.took(task(), 100.0)
    queue.moves(NOW_MS - 6_000, unlimited)
    queue.add(patient := task())
    for since_ms in range(0, 6_000, 500):
        queue.hopeless(NOW_MS - 6_000 + since_ms)
    queue.remove(lambda one: one is patient)
    queue.ended(first, answered=True)
    queue.add(task(age_ms=2_600, left_ms=2_400))
    assert queue.hopeless(NOW_MS) == []
    queue.add(second := task(age_ms=2_600, left_ms=2_400))
    assert queue.hopeless(NOW_MS) == [second]


def test_batch_tasks_fill_a_model_that_has_nothing_else_to_do() -> None:
    tasks = [task(Lane.BATCH) for _ in range(5)]
    assert line(4, *tasks).moves(NOW_MS, unlimited).start == tasks[:4]


def test_batch_generations_rest_while_an_interactive_one_runs() -> None:
    batch = [task(Lane.BATCH), task(Lane.BATCH)]
    queue = line(2, *batch)
    queue.moves(NOW_MS, unlimited)
    urgent = task()
    queue.add(urgent)
    moves = queue.moves(NOW_MS, unlimited)
    assert (moves.start, moves.hold, moves.release) == ([urgent], batch, [])
    assert queue.held == 2
    queue.ended(urgent, answered=True)
    moves = queue.moves(NOW_MS, unlimited)
    assert (moves.start, moves.hold, moves.release) == ([], [], batch)
    assert queue.held == 0


def test_batch_work_goes_on_only_after_a_moment_without_interactive_work() -> None:
    resting, waiting = task(Lane.BATCH), task(Lane.BATCH)
    queue = line(2, resting, resume_after_ms=50)
    queue.moves(NOW_MS, unlimited)
    queue.add(waiting)
    for begin_ms in (NOW_MS, NOW_MS + 70):
        queue.add(urgent := task())
        moves = queue.moves(begin_ms, unlimited)
        assert moves.start == [urgent]
        assert moves.again_ms is None
        queue.ended(urgent, answered=True)
        moves = queue.moves(begin_ms + 30, unlimited)
        assert (moves.start, moves.release, moves.again_ms) == ([], [], 50)
        assert queue.moves(begin_ms + 60, unlimited).again_ms == 20
    moves = queue.moves(NOW_MS + 70 + 80, unlimited)
    assert (moves.start, moves.release, moves.again_ms) == ([waiting], [resting], None)


def test_nothing_is_foreseen_where_no_batch_work_waits() -> None:
    queue = line(2, urgent := task(), resume_after_ms=50)
    queue.moves(NOW_MS, unlimited)
    queue.ended(urgent, answered=True)
    assert queue.moves(NOW_MS + 30, unlimited).again_ms is None


def test_some_batch_generations_may_go_on_beside_interactive_ones_the_oldest_first() -> None:
    batch = [task(Lane.BATCH) for _ in range(4)]
    queue = line(4, *batch, beside=1)
    queue.moves(NOW_MS, unlimited)
    queue.add(urgent := task())
    assert queue.moves(NOW_MS, unlimited).hold == batch[1:]
    for one in [task(), task(), task()]:
        queue.add(one)
    moves = queue.moves(NOW_MS, unlimited)
    assert (len(moves.start), moves.hold) == (3, batch[:1]), "interactive tasks take every place"
    queue.ended(urgent, answered=True)
    assert queue.moves(NOW_MS, unlimited).release == batch[:1]


def test_a_resting_generation_comes_before_a_new_one() -> None:
    old, new, urgent = task(Lane.BATCH), task(Lane.BATCH), task()
    queue = line(1, old)
    queue.moves(NOW_MS, unlimited)
    queue.add(urgent)
    queue.moves(NOW_MS, unlimited)
    queue.add(new)
    queue.ended(urgent, answered=True)
    moves = queue.moves(NOW_MS, unlimited)
    assert (moves.release, moves.start) == ([old], [])


def test_what_cannot_rest_leaves_half_of_the_places_to_interactive_tasks() -> None:
    fixed = [task(Lane.BATCH, structured=True) for _ in range(6)]
    free = [task(Lane.BATCH) for _ in range(3)]
    queue = line(8, *fixed, *free)
    assert queue.moves(NOW_MS, unlimited).start == [*fixed[:4], *free]
    for one in (urgent := [task() for _ in range(6)]):
        queue.add(one)
    moves = queue.moves(NOW_MS, unlimited)
    assert (moves.start, moves.hold) == (urgent[:4], free), "what cannot rest keeps its place"
    queue.ended(fixed[0], answered=True)
    assert queue.moves(NOW_MS, unlimited).start == urgent[4:5]


def test_batch_tasks_near_the_end_of_their_window_take_up_to_half_of_the_places() -> None:
    urgent = [task() for _ in range(6)]
    queue = line(4, *urgent[:4], *(late := [task(Lane.BATCH, age_ms=HOUR_MS + 1, priority=-1) for _ in range(3)]))
    queue.add(young := task(Lane.BATCH))
    queue.add(urgent[4])
    queue.look_ahead(NOW_MS, 0)
    assert queue.moves(NOW_MS, unlimited).start == [*urgent[:2], *late[:2]]
    queue.ended(late[0], answered=True)
    assert queue.moves(NOW_MS, unlimited).start == late[2:]
    for one in late[1:]:
        queue.ended(one, answered=True)
    queue.look_ahead(NOW_MS, 0)
    assert queue.moves(NOW_MS, unlimited).start == urgent[2:4]
    for one in urgent[:3]:
        queue.ended(one, answered=True)
    assert queue.moves(NOW_MS, unlimited).start == urgent[4:5]
    assert young not in queue.moves(NOW_MS, unlimited).start, "it has time"


def test_a_batch_lane_takes_as_many_places_as_its_backlog_needs() -> None:
    queue = line(100, first := task(Lane.BATCH))
    queue.moves(NOW_MS, unlimited)
    queue.moves(NOW_MS + 2_000, unlimited)
    queue.ended(first, answered=True)  # it took 2 s
    now_ms = NOW_MS + 2_000
    queue.add(urgent := task())
    for one in (batch := [task(Lane.BATCH) for _ in range(100)]):
        queue.add(one)
    queue.look_ahead(now_ms, unread=1_000)
    assert queue.moves(now_ms, unlimited).start == [urgent], "an hour is enough for 1,100 in a quiet moment"
    queue.look_ahead(now_ms, unread=17_900)
    assert queue.moves(now_ms, unlimited).start == batch[:10], "18,000 of 2 s in 3,598 s"


def test_a_resting_generation_goes_on_once_its_window_nears_its_end() -> None:
    queue = line(2, batch := task(Lane.BATCH))
    queue.moves(NOW_MS, unlimited)
    queue.add(task())
    assert queue.moves(NOW_MS, unlimited).hold == [batch]
    queue.look_ahead(NOW_MS + HOUR_MS + 1, 0)
    assert queue.moves(NOW_MS + HOUR_MS + 1, unlimited).release == [batch]


def test_batch_tasks_wait_while_their_model_is_left_alone_unless_they_press() -> None:
    late, young, urgent = task(Lane.BATCH, age_ms=HOUR_MS + 1), task(Lane.BATCH), task()
    queue = line(8, young, late, urgent, beside=8)
    queue.look_ahead(NOW_MS, 0)
    assert queue.moves(NOW_MS, only(small=0)).start == [urgent, late]
    for one in (urgent, late):
        queue.ended(one, answered=False)
    queue.add(other := task(Lane.BATCH))
    assert queue.moves(NOW_MS, only(small=1)).start == [young], "one tries it again"
    assert queue.moves(NOW_MS, unlimited).start == [other]


def test_a_tier_whose_standby_answers_goes_on_while_another_of_the_same_model_waits() -> None:
    waiting, answered = [task(Lane.BATCH) for _ in range(3)], [task(Lane.BATCH, tier="large") for _ in range(3)]
    queue = line(8, *waiting, *answered)
    assert queue.moves(NOW_MS, only(small=0, large=2)).start == answered[:2]
    assert queue.moves(NOW_MS, unlimited).start == [*waiting, *answered[2:]]


@pytest.mark.parametrize(("down", "up"), [("small", "canary"), ("canary", "small")])
def test_a_rollouts_model_and_the_tiers_own_do_not_wait_for_each_other(down: str, up: str) -> None:
    tasks = {name: [task(Lane.BATCH, model=name) for _ in range(3)] for name in (down, up)}
    queue = line(8, *tasks[down], *tasks[up])
    assert queue.moves(NOW_MS, only(**{down: 0, up: 8})).start == tasks[up]
    assert queue.moves(NOW_MS, only(**{down: 1, up: 8})).start == tasks[down][:1], "one tries it beside the others"
    assert queue.moves(NOW_MS, unlimited).start == tasks[down][1:]


def test_where_nothing_new_may_start_what_rests_goes_on() -> None:
    queue = line(2, batch := task(Lane.BATCH))
    queue.moves(NOW_MS, unlimited)
    queue.add(task())
    queue.moves(NOW_MS, unlimited)
    assert queue.rouse() == [batch]
    assert queue.held == 0


def test_waiting_tasks_can_be_removed_and_the_others_keep_their_order() -> None:
    tasks = [task(partition=number % 2) for number in range(6)]
    queue = line(6, *tasks)
    assert queue.remove(lambda one: one.partition == ("llm.tier.small", 1)) == tasks[1::2]
    assert queue.moves(NOW_MS, unlimited).start == tasks[::2]


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
            queue.ended(ended, answered=True)
        elif what in ("interactive", "batch"):
            queue.add(task(Lane(what)))
            waiting += 1
        moves = queue.moves(NOW_MS, unlimited)
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
    room.give_back(task())
    assert await waiting


async def test_who_is_refused_leaves_a_place_to_others_where_few_have_done_so() -> None:
    room, refused = Room(1), [task() for _ in range(ASIDE + 1)]
    for one in refused:
        assert await room.wait(1)
        room.take()
        room.set_aside(one)
    assert not await room.wait(0.001)
    room.give_back(refused[0])
    assert not await room.wait(0.001)
    room.give_back(refused[-1])
    assert await room.wait(1)


async def test_a_closed_room_has_no_place() -> None:
    room = Room(5)
    room.close()
    assert not await room.wait(0.001)
