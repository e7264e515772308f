"""How the steps of a long command are shown in a shell."""

import time
from typing import Self

from rich.console import Console
from rich.markup import escape

_COUNTED_EVERY_S = 10


class ConsoleProgress:
    """Prints each finished step with the seconds since the start, and what is being waited for.

    On a terminal that is a line which turns and counts; elsewhere it is printed once each time it changes.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._counted_s = self._began
        self._doing = ""
        self._line = console.status(self, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._line is not None:
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            self._line.stop()

    def __rich__(self) -> str:
        return escape(f"{self._elapsed_s():4.0f} s  {self._doing}")

    def doing(self, what: str) -> None:
        if self._line is None and what != self._doing:
            self.done(f"... {what}")
        self._doing = what

    def counting(self, what: str) -> None:
        """Like ``doing`` for what changes all the time: elsewhere than on a terminal a line now and then."""
        now = time.monotonic()
        if self._line is not None:
            self._doing = what
        elif now - self._counted_s >= _COUNTED_EVERY_S:
            self._counted_s = now
            self.done(f"... {what}")

    def done(self, what: str) -> None:
        text = f"{self._elapsed_s():6.1f} s  {what}"
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began
