"""Lets work that somebody waits for go before work that nobody does, between threads of one process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Precedence:
    """See the module. Nobody who is waited for ever waits here."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0

    @contextmanager
    def first(self) -> Iterator[None]:
        """Around work that somebody waits for."""
        with self._changed:
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def give_way(self, most_s: float) -> bool:
        """Before a piece of other work: wait until none of the first kind is under way, so long at most.

        Returns:
            Whether none is.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._under_way, most_s)
