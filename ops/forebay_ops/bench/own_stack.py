"""A whole local stack of a benchmark's own, as ``forebay up`` runs it, in a temporary folder and on free ports."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w
from forebay_schemas.config import load_config

from ..local.effective import PROFILE, with_free_ports
from ..local.home import Home
from ..local.stack import Stack
from .harness import Say
from .rig import leave_settings_out


@contextmanager
def own_stack(say: Say, settings: Mapping[str, Any] | None = None) -> Iterator[Stack]:
    """The stack, which is not up yet, and is down afterwards.

    Args:
        settings: sections of its configuration; None: the local profile that is shipped.
    """
    leave_settings_out()
    with tempfile.TemporaryDirectory(prefix="forebay-") as folder:  # short: a socket's path has a limit
        file = PROFILE
        if settings is not None:
            file = Path(folder) / "given.toml"
            file.write_text(tomli_w.dumps(settings))
        home = Home.at(folder, installed=Home.at().root)  # jars and models are shared with the stack of this user
        stack = Stack(home, with_free_ports(load_config(file)))
        try:
            yield stack
        finally:
            say("stopping what was started")
            stack.down(Told(say))


class Told:
    """Tells what a stack does, once for each thing."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._last = ""

    def doing(self, what: str) -> None:
        if what != self._last:
            self._say(what)
            self._last = what

    def done(self, what: str) -> None:
        self._say(what)
