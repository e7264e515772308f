"""Which offset of a partition may be committed while its tasks finish out of order. Pure: no clock, no Kafka."""

from collections.abc import Mapping

Partition = tuple[str, int]
"""Topic and number."""


class OffsetTracker:
    """Progress of the partitions that this process owns.

    The offset to commit is the one after the longest run of finished tasks, counted from the first task taken:
    everything before it is done, so a successor that begins there loses nothing. Tasks that finished behind a
    running one are done again after a crash.

    A partition is known from its first ``started`` to ``revoked``; what arrives for an unknown one counts for
    nothing, because by then its offsets belong to another process.
    """

    def __init__(self) -> None:
        self._partitions: dict[Partition, _Progress] = {}

    def partitions(self) -> set[Partition]:
        """Those that are known."""
        return set(self._partitions)

    def started(self, partition: Partition, offset: int) -> None:
        """A task was taken from the log.

        Raises:
            ValueError: the offset is not above the last one taken: the log was read out of order.
        """
        self._partitions.setdefault(partition, _Progress()).start(partition, offset)

    def finished(self, partition: Partition, offset: int) -> None:
        """A task that was started has its outcome."""
        if progress := self._partitions.get(partition):
            progress.finish(offset)

    def committable(self) -> dict[Partition, int]:
        """The offset to continue from, for each partition that has moved since its last commit."""
        return {
            partition: progress.next_offset
            for partition, progress in self._partitions.items()
            if progress.next_offset is not None and progress.next_offset != progress.committed
        }

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """These offsets, taken from ``committable``, are stored by the broker."""
        for partition, offset in offsets.items():
            if progress := self._partitions.get(partition):
                progress.committed = offset

    def revoked(self, partition: Partition) -> None:
        """The partition belongs to another process from here on."""
        self._partitions.pop(partition, None)


class _Progress:
    """One partition: its tasks in log order, from the first unfinished one on."""

    def __init__(self) -> None:
        self.next_offset: int | None = None
        self.committed: int | None = None
        self._last_started = -1
        self._finished: dict[int, bool] = {}

    def start(self, partition: Partition, offset: int) -> None:
        if offset <= self._last_started:
            raise ValueError(f"{partition}: offset {offset} came after {self._last_started}; a partition is read once")
        self._last_started = offset
        self._finished[offset] = False

    def finish(self, offset: int) -> None:
        if offset not in self._finished:
            return
        self._finished[offset] = True
        # Offsets have gaps (transaction markers, compaction), so the order of the log counts, not the numbers.
        while self._finished and self._finished[first := next(iter(self._finished))]:
            del self._finished[first]
            self.next_offset = first + 1
