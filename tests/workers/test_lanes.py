"""Interactive tasks come first, and never more tasks are held than there is room for."""

import asyncio

from forebay_schemas.records import Lane
from forebay_workers.lanes import Room, Waiting

from .doubles import delivery


def test_interactive_tasks_start_before_batch_ones_that_came_earlier() -> None:
    waiting = Waiting()
    batch, interactive = delivery(lane=Lane.BATCH), delivery(lane=Lane.INTERACTIVE)
    waiting.add(batch)
    waiting.add(interactive)
    assert [waiting.next(), waiting.next(), waiting.next()] == [interactive, batch, None]


def test_within_a_lane_the_first_to_come_is_the_first_to_start() -> None:
    waiting = Waiting()
    deliveries = [delivery(offset=offset) for offset in range(5)]
    for each in deliveries:
        waiting.add(each)
    assert [waiting.next() for _ in deliveries] == deliveries


def test_the_tasks_of_a_partition_can_be_dropped_and_the_others_keep_their_order() -> None:
    waiting = Waiting()
    deliveries = [delivery(partition=offset % 2, offset=offset) for offset in range(6)]
    for each in deliveries:
        waiting.add(each)
    assert waiting.drop({deliveries[0].partition}) == 3
    assert [waiting.next(), waiting.next(), waiting.next(), waiting.next()] == [*deliveries[1::2], None]


async def test_batch_work_leaves_places_for_interactive_work() -> None:
    room = Room(16)
    for _ in range(14):
        room.take()
    assert not room.free(Lane.BATCH)
    assert room.free(Lane.INTERACTIVE)
    for _ in range(2):
        room.take()
    assert not room.free(Lane.INTERACTIVE)


async def test_a_room_for_few_tasks_serves_batch_work_too() -> None:
    assert Room(1).free(Lane.BATCH)


async def test_who_waits_for_a_place_goes_on_when_one_is_given_back() -> None:
    room = Room(1)
    room.take()
    waiter = asyncio.create_task(room.wait(Lane.INTERACTIVE, timeout_s=60))
    await asyncio.sleep(0)
    assert not waiter.done()
    room.give_back(1)
    assert await waiter


async def test_waiting_for_a_place_ends_without_one() -> None:
    room = Room(1)
    room.take()
    assert not await room.wait(Lane.INTERACTIVE, timeout_s=0)


async def test_a_closed_room_has_no_place_even_when_it_is_empty() -> None:
    room = Room(8)
    room.close()
    assert not room.free(Lane.INTERACTIVE)
