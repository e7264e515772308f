"""An offset moves over what is finished, whatever order things happen in, and never over what is not."""

import pytest
from forebay_workers.offsets import OffsetTracker
from hypothesis import given
from hypothesis import strategies as st

P = ("llm.tier.small", 0)
Q = ("llm.tier.small", 1)

offsets = st.sets(st.integers(0, 10**12), min_size=1, max_size=30).map(sorted)
"""The offsets of a partition's records: ascending, with gaps where the log holds something else."""


def tracker_with(started: list[int]) -> OffsetTracker:
    tracker = OffsetTracker()
    for offset in started:
        tracker.started(P, offset)
    return tracker


def test_nothing_is_committable_before_something_is_finished() -> None:
    assert tracker_with([3, 4, 7]).committable() == {}


def test_the_offset_moves_behind_the_finished_prefix() -> None:
    tracker = tracker_with([3, 4, 7])
    tracker.finished(P, 4)
    assert tracker.committable() == {}
    tracker.finished(P, 3)
    assert tracker.committable() == {P: 5}
    tracker.finished(P, 7)
    assert tracker.committable() == {P: 8}


def test_what_is_committed_is_not_committable_again() -> None:
    tracker = tracker_with([3, 4])
    tracker.finished(P, 3)
    tracker.committed(tracker.committable())
    assert tracker.committable() == {}
    tracker.finished(P, 4)
    assert tracker.committable() == {P: 5}


def test_what_was_not_committed_after_all_stays_committable() -> None:
    tracker = tracker_with([3, 4])
    tracker.finished(P, 3)
    assert tracker.committable() == tracker.committable() == {P: 4}


def test_partitions_move_on_their_own() -> None:
    tracker = tracker_with([1])
    tracker.started(Q, 1)
    tracker.finished(Q, 1)
    assert tracker.committable() == {Q: 2}


def test_a_revoked_partition_is_forgotten_and_late_completions_count_for_nothing() -> None:
    tracker = tracker_with([3, 4])
    tracker.finished(P, 3)
    tracker.revoked(P)
    tracker.finished(P, 4)
    tracker.committed({P: 5})
    assert tracker.committable() == {}
    assert tracker.partitions() == set()


def test_a_partition_that_comes_back_begins_anew_even_at_earlier_offsets() -> None:
    tracker = tracker_with([3, 4])
    tracker.finished(P, 4)
    tracker.revoked(P)
    tracker.started(P, 3)
    tracker.finished(P, 3)
    assert tracker.committable() == {P: 4}


def test_a_log_that_is_read_out_of_order_is_an_error() -> None:
    with pytest.raises(ValueError, match="offset 4 came after 4"):
        tracker_with([3, 4, 4])


@given(offsets, st.data())
def test_in_any_order_of_completion_the_offset_is_the_first_unfinished_one(
    started: list[int], data: st.DataObject
) -> None:
    tracker = tracker_with(started)
    order = data.draw(st.permutations(started))
    finished: set[int] = set()
    for offset in order:
        tracker.finished(P, offset)
        finished.add(offset)
        prefix = [each for index, each in enumerate(started) if finished.issuperset(started[: index + 1])]
        assert tracker.committable() == ({P: prefix[-1] + 1} if prefix else {})


@given(offsets, st.data())
def test_a_successor_after_a_crash_begins_at_the_first_task_without_a_committed_outcome(
    log: list[int], data: st.DataObject
) -> None:
    """Generations end in any order, commits happen at any time, and then the process dies."""
    tracker = tracker_with(log)
    committed_offset = 0
    committed: set[int] = set()
    finished: set[int] = set()
    for offset in data.draw(st.permutations(log)):
        tracker.finished(P, offset)
        finished.add(offset)
        if data.draw(st.booleans()):
            positions = tracker.committable()
            tracker.committed(positions)
            committed_offset = positions.get(P, committed_offset)
            committed |= finished
    skipped = {offset for offset in log if offset < committed_offset}
    assert skipped <= committed
    assert all(offset in skipped for offset in log[: len(skipped)])
    unfinished = [offset for offset in log if offset not in committed]
    if committed and unfinished:
        assert committed_offset <= unfinished[0]


@given(st.lists(st.sampled_from(["start", "finish", "commit", "revoke"]), max_size=60), st.data())
def test_an_offset_never_goes_back_while_a_partition_is_owned(steps: list[str], data: st.DataObject) -> None:
    tracker = OffsetTracker()
    next_offset, running, last = 0, list[int](), -1
    for step in steps:
        if step == "start":
            tracker.started(P, next_offset)
            running.append(next_offset)
            next_offset += data.draw(st.integers(1, 3))
        elif step == "finish" and running:
            tracker.finished(P, running.pop(data.draw(st.integers(0, len(running) - 1))))
        elif step == "commit":
            positions = tracker.committable()
            tracker.committed(positions)
            assert positions.get(P, last + 1) > last
            last = positions.get(P, last)
            assert all(offset >= last for offset in running)
        elif step == "revoke":
            tracker.revoked(P)
            running, last = [], -1
