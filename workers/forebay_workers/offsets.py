"""What of a partition is done, handed over or begun how often, while its tasks finish out of order.

Pure: no clock, no Kafka. A group's commit is one offset and a short text, its metadata. Everything before the offset
is done; the metadata tells of each offset from there on whether it is done too, handed over to a provider's batch, or
how many attempts were begun on it. So a successor generates only what has no committed outcome, looks for what was
handed over where it is, and knows which tasks ended their worker before.
"""

import base64
import binascii
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

Partition = tuple[str, int]
"""Topic and number."""

WINDOW = 4096
"""Offsets that the metadata of one commit can tell of: at half a byte each and four characters for three bytes they
take 2,732 of the 4,095 that the brokers allow by default."""
MAX_ATTEMPTS = 13
"""The most attempts that can be told of."""

Unpublished = Mapping[Partition, Collection[int]]
"""Offsets of finished tasks."""

_NONE: Unpublished = {}
_DONE = 15
_HANDED_OVER = 14
_FORMAT = "1:"


@dataclass(frozen=True, slots=True)
class Commit:
    """What a group stores of one partition.

    Attributes:
        offset: where it continues; everything before is done.
        metadata: what is known of the offsets from there on; see ``encode``.
    """

    offset: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Known:
    """What a commit tells of the offsets from its own on; of none twice.

    Attributes:
        attempts: how many were begun, at least one.
        handed_over: those that may be in a provider's batch.
    """

    done: Collection[int] = frozenset()
    attempts: Mapping[int, int] = field(default_factory=dict)
    handed_over: Collection[int] = frozenset()


def encode(known: Known, offset: int) -> str:
    """Half a byte for each offset from ``offset`` on: 15 for done, 14 for handed over, else the attempts begun.

    What lies behind the window is left out; see ``OffsetTracker.tellable``.
    """
    states = {position - offset: min(count, MAX_ATTEMPTS) for position, count in known.attempts.items() if count}
    states |= {position - offset: _HANDED_OVER for position in known.handed_over}
    states |= {position - offset: _DONE for position in known.done}
    states = {place: state for place, state in states.items() if 0 <= place < WINDOW}
    if not states:
        return ""
    packed = bytearray(max(states) // 2 + 1)
    for place, state in states.items():
        packed[place // 2] |= state << (4 * (place % 2))
    return _FORMAT + base64.b64encode(packed).decode()


def decode(commit: Commit) -> Known:
    """What the metadata of a commit tells. That of anybody else's tells nothing."""
    if not commit.metadata.startswith(_FORMAT):
        return Known()
    try:
        packed = base64.b64decode(commit.metadata.removeprefix(_FORMAT), validate=True)
    except (binascii.Error, ValueError):
        return Known()
    halves = (half for byte in packed for half in (byte & 15, byte >> 4))
    states = dict(enumerate(halves, commit.offset))
    return Known(
        {offset for offset, state in states.items() if state == _DONE},
        {offset: state for offset, state in states.items() if 0 < state <= MAX_ATTEMPTS},
        {offset for offset, state in states.items() if state == _HANDED_OVER},
    )


class OffsetTracker:
    """Progress of the partitions that this process owns.

    A partition is known from ``assigned`` to ``revoked``; what is said of an unknown one counts for nothing, because
    by then its offsets belong to another process.
    """

    def __init__(self) -> None:
        self._partitions: dict[Partition, _Progress] = {}
        self._excused: dict[Partition, Counter[int]] = {}

    def assigned(self, partition: Partition, commit: Commit | None) -> None:
        """The partition is ours, from what its group stored; None where it stored nothing."""
        self._partitions[partition] = _Progress(commit, self._excused.pop(partition, Counter()))

    def revoked(self, partition: Partition) -> None:
        """The partition belongs to another process from here on."""
        self._partitions.pop(partition, None)

    def partitions(self) -> set[Partition]:
        """Those that are known."""
        return set(self._partitions)

    def read(self, partition: Partition, offset: int) -> bool:
        """A task was read from the log; whether there is anything left to do about it.

        There is not where it is done, and where it was read before: librdkafka may step back in a log when it resumes.
        """
        progress = self._partitions.get(partition)
        return progress is not None and progress.read(offset)

    def attempts(self, partition: Partition, offset: int) -> int:
        """How many attempts were begun on a task, by this process or others, in [0, ``MAX_ATTEMPTS``]."""
        progress = self._partitions.get(partition)
        return progress.attempts.get(offset, 0) if progress else 0

    def is_handed_over(self, partition: Partition, offset: int) -> bool:
        """Whether a task may be in a provider's batch, by this process or others."""
        progress = self._partitions.get(partition)
        return progress is not None and offset in progress.handed_over

    def handed_over(self, partition: Partition, offset: int) -> None:
        """A task goes into a provider's batch, which is no attempt; it must be committed before it does."""
        if progress := self._partitions.get(partition):
            progress.hand_over(offset)

    def begun(self, partition: Partition, offset: int) -> None:
        """Another attempt begins; it must be committed before it does."""
        if progress := self._partitions.get(partition):
            progress.count(offset, 1)

    def withdrawn(self, partition: Partition, offset: int) -> None:
        """The last attempt was given up for no fault of the task."""
        if progress := self._partitions.get(partition):
            progress.count(offset, -1)

    def excused(self, partition: Partition, offset: int) -> None:
        """An attempt was no fault of the task, and the partition goes before that can be stored.

        Should the partition come back to this process, the attempt does not count. Others cannot know.
        """
        self._excused.setdefault(partition, Counter())[offset] += 1

    def finished(self, partition: Partition, offset: int) -> None:
        """A task that was read has its outcome."""
        if progress := self._partitions.get(partition):
            progress.finish(offset)

    def full(self, partition: Partition) -> bool:
        """Whether nothing further may be read: a commit could not tell of it."""
        progress = self._partitions.get(partition)
        return progress is not None and progress.full

    def tellable(self, partition: Partition, offset: int, without: Unpublished = _NONE) -> bool:
        """Whether a commit can tell of an offset. One behind a wide gap in the log waits until the window has moved.

        Args:
            without: as for ``to_commit``.
        """
        progress = self._partitions.get(partition)
        return progress is None or progress.tellable(offset, without.get(partition, ()))

    def to_commit(self, without: Unpublished = _NONE) -> dict[Partition, Commit]:
        """What to store, for each partition of which there is news since ``committed``.

        Args:
            without: finished tasks whose outcomes are not published with this commit: it tells them as never begun.
        """
        commits = {
            partition: progress.commit(without.get(partition, ())) for partition, progress in self._partitions.items()
        }
        return {
            partition: commit
            for partition, commit in commits.items()
            if commit is not None and commit != self._partitions[partition].committed
        }

    def committed(self, commits: Mapping[Partition, Commit]) -> None:
        """These, taken from ``to_commit``, are stored by the brokers."""
        for partition, commit in commits.items():
            if progress := self._partitions.get(partition):
                progress.committed = commit


class _Progress:
    """One partition. ``unfinished`` holds what was read and has no outcome, in the order of the log."""

    def __init__(self, commit: Commit | None, excused: Counter[int]) -> None:
        self.committed = commit
        self._offset = commit.offset if commit else None
        known = decode(commit) if commit else Known()
        self._done = set(known.done)
        self.attempts = dict(Counter(known.attempts) - excused)
        self.handed_over = set(known.handed_over)
        self._last_read = -1
        self._unfinished: dict[int, None] = {}
        self._told: Commit | None = None
        """The last ``commit``, until something changes: thousands of offsets may be handed over for hours."""

    @property
    def full(self) -> bool:
        return self._offset is not None and self._last_read - self._offset >= WINDOW - 1

    def tellable(self, offset: int, without: Collection[int]) -> bool:
        return self._offset is None or offset - min((self._offset, *without)) < WINDOW

    def read(self, offset: int) -> bool:
        if offset <= self._last_read:
            return False
        self._last_read, self._told = offset, None
        if self._offset is None:
            self._offset = offset
        if offset in self._done:
            self._advance()
            return False
        self._unfinished[offset] = None
        self._advance()  # what retention removed is behind us, however much it was
        return True

    def hand_over(self, offset: int) -> None:
        if offset in self._unfinished:
            self.handed_over.add(offset)
            self._told = None

    def count(self, offset: int, change: int) -> None:
        if offset in self._unfinished:
            self.handed_over.discard(offset)
            self.attempts[offset] = max(0, self.attempts.get(offset, 0) + change)
            self._told = None

    def finish(self, offset: int) -> None:
        if offset not in self._unfinished:
            return
        del self._unfinished[offset]
        self.attempts.pop(offset, None)
        self.handed_over.discard(offset)
        self._done.add(offset)
        self._told = None
        self._advance()

    def _advance(self) -> None:
        # Offsets have gaps (transaction markers, compaction), so what was read counts, not every number.
        following = next(iter(self._unfinished), self._last_read + 1)
        if self._offset is not None and following > self._offset:
            self._offset = following
            self._done = {done for done in self._done if done >= following}
            self.attempts = {at: count for at, count in self.attempts.items() if at >= following}

    def commit(self, without: Collection[int]) -> Commit | None:
        if self._offset is None:
            return None
        if not without and self._told is not None:
            return self._told
        offset = min((self._offset, *without))
        done = self._done.union(range(offset, self._offset)).difference(without)
        commit = Commit(offset, encode(Known(done, self.attempts, self.handed_over), offset))
        self._told = self._told if without else commit
        return commit
