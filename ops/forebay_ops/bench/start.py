"""How long the local stack takes until it answers, part by part, and what it takes while nobody asks."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil
from forebay_client import Client
from forebay_schemas.config import Config

from ..local.stack import Stack
from .harness import Bench, Say
from .own_stack import Told, own_stack

STACK = "forebay up"
_TIMEOUT_S = 60.0
_SETTLING_S = 15.0
"""After the first reply: the JVMs compile, and connections that are used once are opened."""
_IDLE_S = 30.0


@contextmanager
def bench(say: Say) -> Iterator[Bench]:
    """A stack with nothing in it but what was installed before, brought up, asked once, left alone, taken down."""

    def up() -> dict[str, float]:
        with own_stack(say) as stack:
            return _measured(stack, say)

    yield Bench(sides={STACK: up}, facts={"left alone": f"{_IDLE_S:g} s, {_SETTLING_S:g} s after the first reply"})


def _measured(stack: Stack, say: Say) -> dict[str, float]:
    began_s = time.monotonic()
    stack.up(Told(say))
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
