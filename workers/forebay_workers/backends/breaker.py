"""A circuit breaker: an endpoint that keeps failing is left alone for a while, then tried with one call."""

from collections.abc import Callable


class Breaker:
    """Counts failures in a row. Ask ``admits`` before each call, and tell how each admitted call ended.

    Closed, it admits every call. Open, it admits none for ``open_s`` seconds and then a single one: the breaker closes
    when that succeeds, and stays open for as long again when it fails.
    """

    def __init__(self, failures_to_open: int, open_s: float, now_s: Callable[[], float]) -> None:
        """``now_s`` is a monotonic clock in seconds."""
        self._failures_to_open = failures_to_open
        self._open_s = open_s
        self._now_s = now_s
        self._failures = 0
        self._open_until_s: float | None = None
        self._trying = False

    @property
    def open(self) -> bool:
        """Whether calls are refused, but for the one that tries the endpoint."""
        return self._open_until_s is not None

    @property
    def due(self) -> bool:
        """Whether it is open and the next call tries the endpoint."""
        return self._open_until_s is not None and not self._trying and self._now_s() >= self._open_until_s

    def admits(self) -> bool:
        """Whether a call may be made now; the caller makes it, or tells that it was ``abandoned``."""
        if self._open_until_s is None:
            return True
        if not self.due:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """The endpoint answered."""
        self._failures = 0
        self._open_until_s = None
        self._trying = False

    def failed(self) -> None:
        """The endpoint did not answer."""
        self._failures += 1
        # Calls that were admitted before it opened fail later than others: they do not keep it open for longer.
        if self._trying or (self._open_until_s is None and self._failures >= self._failures_to_open):
            self._open_until_s = self._now_s() + self._open_s
            self._trying = False

    def abandoned(self) -> None:
        """The call was cancelled: nothing is known, and the next one may try."""
        self._trying = False
