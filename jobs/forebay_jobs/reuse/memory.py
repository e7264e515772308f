"""What policies have learned, in the desk's checkpoints besides Redis: it outlives a Redis that forgot everything while
no process was there to put it back."""

import zlib
from collections.abc import Sequence

from forebay_jobs.desk_state import DeskState

from .namespaces import KEPT_S, Namespaces

KEEP_EVERY_MS = 10_000
"""As much is learned anew at worst, besides what came since the last checkpoint."""


class LearnedMemory:
    """See the module. One instance serves all buckets of a slot; each namespace is kept by one bucket."""

    def __init__(self, namespaces: Namespaces, buckets: Sequence[str]) -> None:
        self._namespaces = namespaces
        self._buckets = buckets
        self._next_ms: dict[str, int] = {}

    def tend(self, state: DeskState, bucket: str, now_ms: int) -> None:
        """Hand back what a bucket kept the first time that it is met, and from time to time keep what was learned."""
        due_ms = self._next_ms.get(bucket)
        if due_ms is not None and now_ms < due_ms:
            return
        self._next_ms[bucket] = now_ms + KEEP_EVERY_MS
        if due_ms is None:
            for key, (kept_ms, learned) in state.learned().items():
                if now_ms - kept_ms > KEPT_S * 1000:
                    state.drop_learned(key)
                else:
                    self._namespaces.offer(key, learned)
        for key, learned in self._namespaces.taught(lambda key: self._home(key) == bucket).items():
            state.put_learned(key, now_ms, learned)

    def _home(self, key: str) -> str:
        return self._buckets[zlib.crc32(key.encode()) % len(self._buckets)]
