"""What is committed is never more than what is done, whatever order things happen in and whoever dies when."""

from collections.abc import Collection, Mapping

import pytest
from forebay_workers.offsets import MAX_ATTEMPTS, WINDOW, Commit, Known, OffsetTracker, Partition, decode, encode
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

P = ("llm.tier.small", 0)
Q = ("llm.tier.small", 1)
BROKER_LIMIT_CHARS = 4095

offsets = st.sets(st.integers(0, WINDOW - 1), max_size=60)


def tracker_with(read: list[int], commit: Commit | None = None) -> OffsetTracker:
    tracker = OffsetTracker()
    tracker.assigned(P, commit)
    for offset in read:
        assert tracker.read(P, offset)
    return tracker


def stored(tracker: OffsetTracker) -> tuple[int, Collection[int], Mapping[int, int]]:
    """What a successor would learn: where to continue, what is done from there on, and attempts."""
    commit = tracker.to_commit()[P]
    known = decode(commit)
    return commit.offset, known.done, known.attempts


def test_the_offset_moves_behind_what_is_done_without_a_gap_and_the_rest_is_told() -> None:
    tracker = tracker_with([3, 4, 7, 8])
    tracker.finished(P, 7)
    assert stored(tracker) == (3, {7}, {})
    tracker.finished(P, 3)
    assert stored(tracker) == (4, {7}, {})
    tracker.finished(P, 4)
    assert stored(tracker) == (8, set(), {})
    tracker.finished(P, 8)
    assert stored(tracker) == (9, set(), {})


def test_only_news_is_committed_and_what_was_refused_stays_news() -> None:
    tracker = tracker_with([3, 4])
    tracker.finished(P, 3)
    assert tracker.to_commit() == tracker.to_commit()
    tracker.committed(tracker.to_commit())
    assert tracker.to_commit() == {}
    tracker.begun(P, 4)
    assert stored(tracker) == (4, set(), {4: 1})


def test_a_successor_skips_what_is_done_and_knows_the_attempts_on_the_rest() -> None:
    tracker = tracker_with([3, 4, 5, 6])
    for offset in (3, 4, 5):
        tracker.begun(P, offset)
    tracker.begun(P, 4)
    tracker.finished(P, 5)
    successor = OffsetTracker()
    successor.assigned(P, tracker.to_commit()[P])
    assert [successor.read(P, offset) for offset in (3, 4, 5, 6)] == [True, True, False, True]
    assert [successor.attempts(P, offset) for offset in (3, 4, 6)] == [1, 2, 0]
    successor.finished(P, 3)
    assert stored(successor) == (4, {5}, {4: 2})
    successor.finished(P, 4)
    assert stored(successor)[0] == 6, "over what the predecessor had done"


def test_an_attempt_that_was_withdrawn_does_not_count() -> None:
    tracker = tracker_with([3])
    tracker.begun(P, 3)
    tracker.begun(P, 3)
    tracker.withdrawn(P, 3)
    assert stored(tracker) == (3, set(), {3: 1})


def test_an_attempt_that_was_excused_is_taken_off_once_when_its_partition_comes_back() -> None:
    tracker = tracker_with([3, 4])
    for offset in (3, 3, 4):
        tracker.begun(P, offset)
    commit = tracker.to_commit()[P]
    for offset in (3, 4, 5):
        tracker.excused(P, offset)
    tracker.revoked(P)
    tracker.assigned(P, commit)
    assert stored(tracker) == (3, set(), {3: 1})
    tracker.revoked(P)
    tracker.assigned(P, commit)
    assert tracker.to_commit() == {}, "these are other attempts"


def test_a_partition_whose_commit_could_not_tell_of_more_is_full() -> None:
    tracker = tracker_with(list(range(10, 10 + WINDOW - 1)))
    assert not tracker.full(P)
    assert tracker.read(P, 10 + WINDOW - 1)
    assert tracker.full(P)
    for offset in range(11, 10 + WINDOW):
        tracker.finished(P, offset)
    assert tracker.full(P)
    assert len(tracker.to_commit()[P].metadata) <= BROKER_LIMIT_CHARS
    tracker.finished(P, 10)
    assert not tracker.full(P)
    assert tracker.to_commit()[P] == Commit(10 + WINDOW, "")


def test_what_lies_behind_a_gap_wider_than_the_window_waits_to_be_told() -> None:
    tracker = tracker_with([3, 4 + WINDOW])
    tracker.finished(P, 4 + WINDOW)
    assert stored(tracker) == (3, set(), {})
    assert not tracker.tellable(P, 4 + WINDOW)
    tracker.finished(P, 3)
    assert tracker.tellable(P, 4 + WINDOW)


def test_what_is_read_again_is_left_alone() -> None:
    tracker = tracker_with([3, 4])
    tracker.begun(P, 3)
    tracker.finished(P, 4)
    assert not tracker.read(P, 3)
    assert not tracker.read(P, 4)
    assert stored(tracker) == (3, {4}, {3: 1})


def test_what_is_said_of_a_partition_of_anothers_counts_for_nothing() -> None:
    tracker = tracker_with([3])
    tracker.finished(Q, 3)
    tracker.begun(Q, 3)
    assert not tracker.read(Q, 4)
    assert tracker.partitions() == {P}
    tracker.revoked(P)
    tracker.finished(P, 3)
    assert tracker.to_commit() == {}


def test_a_successor_knows_what_was_handed_over_until_an_attempt_begins_or_it_is_done() -> None:
    tracker = tracker_with([3, 4, 5])
    for offset in (3, 4, 5):
        tracker.handed_over(P, offset)
    tracker.begun(P, 4)
    tracker.finished(P, 5)
    successor = tracker_with([3, 4], tracker.to_commit()[P])
    assert [successor.is_handed_over(P, offset) for offset in (3, 4)] == [True, False]
    assert [successor.attempts(P, offset) for offset in (3, 4)] == [0, 1]
    assert not successor.read(P, 5)


@pytest.mark.parametrize("metadata", ["", "someone else's", "1:", "1:%%%", "2:AAAA", "1:A"])
def test_metadata_that_is_not_ours_says_nothing(metadata: str) -> None:
    assert decode(Commit(5, metadata)) == Known()


@given(
    st.integers(0, 2**62),
    offsets,
    offsets,
    st.dictionaries(st.integers(0, WINDOW - 1), st.integers(1, MAX_ATTEMPTS)),
)
def test_what_is_encoded_is_decoded_and_fits(
    offset: int, done: set[int], handed_over: set[int], attempts: dict[int, int]
) -> None:
    done = {offset + place for place in done}
    handed_over = {offset + place for place in handed_over} - done
    others = done | handed_over
    attempts = {offset + place: count for place, count in attempts.items() if offset + place not in others}
    metadata = encode(Known(done, attempts, handed_over), offset)
    assert decode(Commit(offset, metadata)) == Known(done, attempts, handed_over)
    assert len(metadata) <= BROKER_LIMIT_CHARS


class Processes(RuleBasedStateMachine):
    """Processes that take one partition over from each other, by crashes and by revocations, at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[int] = []
        self.end = 0
        self.stored: Commit | None = None
        self.published: dict[int, int] = {}
        """How often each offset's outcome was published: with its progress, or not at all."""
        self.begun: dict[int, int] = {}
        """Attempts that were committed before they began, less those withdrawn."""
        self.take_over()

    def take_over(self) -> None:
        self.tracker = OffsetTracker()
        self.tracker.assigned(P, self.stored)
        self.position = self.stored.offset if self.stored else 0
        self.running: list[int] = []
        self.finished: list[int] = []

    def commit(self, without: frozenset[int] = frozenset()) -> None:
        left_out: dict[Partition, frozenset[int]] = {P: without}
        published = [one for one in self.finished if one not in without and self.tracker.tellable(P, one, left_out)]
        commits = self.tracker.to_commit(left_out)
        self.begun |= dict.fromkeys(without, 0)
        self.stored = commits.get(P, self.stored)
        self.tracker.committed(commits)
        for offset in published:
            self.published[offset] = self.published.get(offset, 0) + 1
            self.finished.remove(offset)

    @rule(gap=st.one_of(st.integers(1, 3), st.integers(WINDOW - 2, 2 * WINDOW)))
    def write(self, gap: int) -> None:
        self.end += gap
        self.log.append(self.end)

    @rule(count=st.integers(1, 5))
    def read(self, count: int) -> None:
        for offset in [offset for offset in self.log if offset >= self.position][:count]:
            self.position = offset + 1
            if self.tracker.read(P, offset):
                assert self.tracker.attempts(P, offset) == self.begun.get(offset, 0)
                self.running.append(offset)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(self.running))
        if self.begun.get(offset, 0) < MAX_ATTEMPTS and self.tracker.tellable(P, offset):
            self.tracker.begun(P, offset)
            self.begun[offset] = self.begun.get(offset, 0) + 1
            self.commit()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(self.running))
        self.running.remove(offset)
        self.tracker.finished(P, offset)
        self.finished.append(offset)

    @rule()
    def publish(self) -> None:
        self.commit()

    @precondition(lambda self: self.finished)
    @rule(data=st.data())
    def publish_some(self, data: st.DataObject) -> None:
        self.commit(without=data.draw(st.frozensets(st.sampled_from(self.finished), min_size=1)))

    @rule()
    def crash(self) -> None:
        self.take_over()

    @rule()
    def revoke(self) -> None:
        for offset in self.running:
            if self.begun.get(offset):
                self.tracker.withdrawn(P, offset)
                self.begun[offset] -= 1
        self.commit()
        self.tracker.revoked(P)
        self.take_over()

    @invariant()
    def something_can_go_on(self) -> None:
        assert not self.running or any(self.tracker.tellable(P, offset) for offset in self.running)

    @invariant()
    def nothing_is_published_twice(self) -> None:
        assert all(times == 1 for times in self.published.values())

    @invariant()
    def nothing_is_passed_over(self) -> None:
        start, done = (self.stored.offset, decode(self.stored).done) if self.stored else (0, set[int]())
        passed = {offset for offset in self.log if offset < start or offset in done}
        assert passed == set(self.published)


TestProcesses = Processes.TestCase
TestProcesses.settings = settings(max_examples=6 * settings().max_examples, stateful_step_count=50, deadline=None)
