"""How long the local stack takes until it answers, part by part, and what it takes while nobody asks."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil
from forebay_client import Client
from forebay_schemas.config import Config, load_config

from ..local.effective import PROFILE, with_free_ports
from ..local.home import Home
from ..local.stack import Stack
from .harness import Bench, Say

STACK = "forebay up"
_TIMEOUT_S = 60.0
_SETTLING_S = 15.0
"""After the first reply: the JVMs compile, and connections that are used once are opened."""
_IDLE_S = 30.0


@contextmanager
def bench(say: Say) -> Iterator[Bench]:
    """A stack with nothing in it but what was installed before, brought up, asked once, left alone, taken down."""
    installed = Home.at().root
    for name in [name for name in os.environ if name.startswith("FOREBAY_")]:
        del os.environ[name]  # they are for the user's installation, and this one must not touch it
    with tempfile.TemporaryDirectory(prefix="forebay-") as folder:
        home = Home.at(folder, installed)

        def up() -> dict[str, float]:
            stack = Stack(home, with_free_ports(load_config(PROFILE)))
            try:
                return _measured(stack, say)
            finally:
                stack.down(_Told(say), purge=True)

        yield Bench(sides={STACK: up}, facts={"left alone": f"{_IDLE_S:g} s, {_SETTLING_S:g} s after the first reply"})


def _measured(stack: Stack, say: Say) -> dict[str, float]:
    began_s = time.monotonic()
    stack.up(_Told(say))
    answered_s = _first_reply(stack.config) - began_s
    time.sleep(_SETTLING_S)
    idle = _idle_percent(stack)
    return {
        **{f"{name}_up_s": seconds for name, seconds in stack.ready_s.items()},
        "first_reply_s": answered_s,
        **{f"{name}_idle_cpu_percent": percent for name, percent in idle.items()},
        "idle_cpu_percent": sum(idle.values()),
    }


def _first_reply(config: Config) -> float:
    with Client(config=config, tenant="bench") as client:
        client.ask("What is a forebay?", timeout_s=_TIMEOUT_S)
        return time.monotonic()


def _idle_percent(stack: Stack) -> Mapping[str, float]:
    """By part: processor time, of one core's."""
    pids = {name: pid for name in stack.ready_s if (pid := stack.pid(name)) is not None}
    before = {name: _cpu_s(pid) for name, pid in pids.items()}
    time.sleep(_IDLE_S)
    return {name: (_cpu_s(pid) - before[name]) / _IDLE_S * 100 for name, pid in pids.items()}


def _cpu_s(pid: int) -> float:
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


class _Told:
    """The stack's progress; what lasts is not told again and again."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def doing(self, what: str) -> None:
        pass

    def done(self, what: str) -> None:
        self._say(what)
