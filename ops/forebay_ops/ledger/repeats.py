"""Telling a reply that answers a request once more, in bounded memory."""

from collections.abc import Iterable

LIMIT = 200_000
"""Ids that are remembered, some 40 MB of them. A restored job writes again what it wrote since its last checkpoint,
2 s by default: at 5,000 replies a second a twentieth of this. While it is away, few replies come."""

WINDOW_MS = 3_600_000
"""A nightly batch may use yesterday's ids again, and those are new requests; a job is not away for an hour."""


class Repeats:
    """The requests answered last. Not safe to share between threads."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._answered_ms: dict[int, int] = {}

    def is_repeat(self, tenant: str, request_id: str, completed_ms: int, retryable: bool | None) -> bool:
        """Whether a reply answers a request that was answered already, within the window; it is remembered.

        Args:
            retryable: of the reply's error. After such an error the id may be sent again, and its next reply is no
                repeat.
        """
        # Two ids share a hash of 64 bits once in 10^14 looks at a full memory.
        key = hash((tenant, request_id))
        before_ms = self._answered_ms.pop(key, None)
        repeat = before_ms is not None and abs(completed_ms - before_ms) <= WINDOW_MS
        if repeat or not retryable:
            self._answered_ms[key] = completed_ms
            if len(self._answered_ms) > self._limit:
                del self._answered_ms[next(iter(self._answered_ms))]
        return repeat

    def restore(self, answered: Iterable[tuple[str, str, int, bool | None]]) -> None:
        """Remember what an earlier process wrote, oldest first; each as the arguments of ``is_repeat``."""
        for each in answered:
            self.is_repeat(*each)
