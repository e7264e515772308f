"""The screen of `forebay top`: drawn anew after each look, and moved by keys."""

import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Sequence
from concurrent.futures import Future

from forebay_schemas.config import Config
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from ..top.look import Look, Looker, in_background, within
from ..top.snapshot import Snapshot, snapshot
from .top_tables import overview

_KEY_S = 0.1
"""How long a key is waited for before the rest is seen to."""
_KEY = re.compile(r"\x1b[\[O][A-Z]|[^\x1b]")
_UP, _DOWN = ("\x1b[A", "\x1bOA", "k"), ("\x1b[B", "\x1bOB", "j")


def watch(console: Console, config: Config, every_s: float, window_s: float) -> None:
    """Show the installation until the key q is pressed.

    Looking goes on in the background, so that keys are heard while a part lets it wait.
    """
    screen = _Screen()
    looks: Sequence[Look] = ()
    looking: Future[Look] | None = None
    due_s = 0.0
    looker = Looker(config)
    with (
        _Keyboard() as keyboard,
        Live(screen, console=console, screen=True, auto_refresh=False) as live,
    ):
        while not screen.left:
            if looking is None and time.monotonic() >= due_s:
                due_s = time.monotonic() + every_s
                looking = in_background(looker.look)
            elif looking is not None and looking.done():
                looks = within(window_s, [*looks, looking.result()])
                looking = None
                screen.show(snapshot(looks, config))
            for key in keyboard.pressed(_KEY_S):
                screen.press(key)
            if screen.outdated(console):
                live.refresh()


class _Screen:
    """What is on the terminal: as many lines of the overview as fit, and one that tells the keys."""

    def __init__(self) -> None:
        self.left = False
        self._snapshot: Snapshot | None = None
        self._paused = False
        self._first_line = 0
        self._drawn: object = None

    def show(self, snapshot: Snapshot) -> None:
        """Here are new figures; they are passed over while it is paused."""
        if not self._paused:
            self._snapshot = snapshot

    def press(self, key: str) -> None:
        """A key was pressed; those without a meaning do nothing."""
        if key == "q":
            self.left = True
        elif key == "p":
            self._paused = not self._paused
        elif key in _UP:
            self._first_line -= 1
        elif key in _DOWN:
            self._first_line += 1

    def outdated(self, console: Console) -> bool:
        """Whether anything changed since this was asked last, the size of the terminal included."""
        now = (self._snapshot, self._paused, self._first_line, console.size)
        changed, self._drawn = now != self._drawn, now
        return changed

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._snapshot is None:
            yield Text("looking at the parts", "dim")
            return
        lines = console.render_lines(overview(self._snapshot, console), options.update(height=None))
        room = options.max_height - 1
        self._first_line = max(0, min(self._first_line, len(lines) - room))
        for line in lines[self._first_line : self._first_line + room]:
            yield from line
            yield Segment.line()
        for _ in range(room - len(lines)):
            yield Segment.line()
        yield self._keys(more=len(lines) > room)

    def _keys(self, more: bool) -> Text:
        keys = Text(no_wrap=True, end="")
        if self._paused:
            keys.append("PAUSED  ", "bold yellow")
        keys.append("q quit  p go on" if self._paused else "q quit  p pause", "dim")
        return keys.append("  up, down: the rest", "dim") if more else keys


class _Keyboard:
    """The keys as they are pressed, without Enter and without being shown; the terminal is left as it was."""

    def __enter__(self) -> "_Keyboard":
        self._before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    def pressed(self, timeout_s: float) -> list[str]:
        """What was pressed within the time; a terminal that is gone counts as q."""
        if not select.select([sys.stdin], [], [], timeout_s)[0]:
            return []
        read = os.read(sys.stdin.fileno(), 64).decode(errors="replace")
        return _KEY.findall(read) if read else ["q"]
