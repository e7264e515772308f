"""Injects one fault after the other, and says of each what it cost and how long it was felt."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from forebay_schemas.errors import ErrorCode

from ..waiting import eventually
from .checker import UNPUBLISHED, Asked, Key, wrong
from .fault import Fault
from .scene import Scene

_STATE_S = 120
_LASTS_S = 120
_LAST_REPLIES_S = 120
"""How long the last replies are waited for, before what has none is lost."""
_LOOK_FROM_S = 21.0
"""From then on a transaction that was open before the fault was left open."""
_LOOK_EVERY_S = 5
_PATIENCE = 3
"""Recovery is waited for this many times its limit, so that it is known how long it took."""

_DUE = frozenset({ErrorCode.CANCELLED, ErrorCode.DEADLINE_EXCEEDED, UNPUBLISHED})
"""What a fault may be told as: the caller at the gateway was gone, or its time over; the brokers did not take it."""


@dataclass
class Injection:
    """A fault that was injected, and what became of it."""

    fault: Fault
    at_s: float
    in_flight: set[Key]
    recovered_s: float | None = None
    """From the injection on; absent: not seen to recover."""
    left_open: bool = False
    """Whether Kafka had left a transaction open, which the suite then ended as an operator does."""
    lost: list[Key] = field(default_factory=list)
    repeated: list[Key] = field(default_factory=list)
    wrong: list[Key] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Codes of error replies: told, and so not lost."""

    @property
    def undue(self) -> set[str]:
        """Codes of errors that no fault is a reason for."""
        return set(self.errors) - _DUE

    @property
    def harmless(self) -> bool:
        """Whether it is over, and cost nothing that it may not."""
        return self.recovered_s is not None and not (self.lost or self.repeated or self.wrong or self.undue)

    @property
    def held(self) -> bool:
        """Whether it was over in time as well."""
        return self.harmless and (self.recovered_s or 0.0) <= self.fault.within_s


def inject(scene: Scene, fault: Fault) -> Injection:
    """Inject a fault in its state, and wait until nothing is left of it: all that was in flight is answered, so is what
    was asked since, by each client and through the gateway, and every part does its work."""
    scene.anew()
    eventually(scene.calm, f"all is well before {fault.name}", timeout_s=_STATE_S, poll_s=0.1)
    eventually(lambda: fault.when(scene), f"the state for {fault.name}", timeout_s=_STATE_S)
    scene.mark()
    injection = Injection(fault, scene.broken_s, scene.checker.in_flight())
    fault.inject(scene)
    try:
        eventually(lambda: fault.until(scene), f"{fault.name} is felt", timeout_s=_LASTS_S)
    finally:
        fault.heal(scene)
    calls = scene.load.callers.answered

    def recovered() -> bool:
        checker = scene.checker
        through_gateway = scene.load.callers.answered > calls
        through_clients = checker.all_answered(injection.in_flight) and checker.answered_since(injection.at_s)
        return through_gateway and through_clients and scene.all_up()

    end_s = injection.at_s + _PATIENCE * fault.within_s
    look_s = injection.at_s + _LOOK_FROM_S
    while injection.recovered_s is None and time.monotonic() < end_s:
        if recovered():
            injection.recovered_s = time.monotonic() - injection.at_s
        elif time.monotonic() > look_s:
            injection.left_open |= scene.abort_left_open()
            look_s = time.monotonic() + _LOOK_EVERY_S
        time.sleep(0.02)
    fault.after(scene)
    return injection


def judge(scene: Scene, injections: list[Injection]) -> None:
    """When the load has ended: note with each injection what is wrong with the requests that it befell."""
    checker = scene.checker
    deadline = time.monotonic() + _LAST_REPLIES_S
    while checker.in_flight() and time.monotonic() < deadline:
        time.sleep(0.1)
    requests = checker.requests()
    for key, asked in requests.items():
        if not (befell := _befell(injections, key, asked)):
            continue
        if asked.lost(checker.killed):
            befell.lost.append(key)
        if asked.repeated:
            befell.repeated.append(key)
        if wrong(key, requests):
            befell.wrong.append(key)
        befell.errors += asked.errors


def _befell(injections: Sequence[Injection], key: Key, asked: Asked) -> Injection | None:
    """The first injection during which a request was in flight; else the last one before it was seen, or the first."""
    before = next(iter(injections), None)
    for injection in injections:
        if key in injection.in_flight:
            return injection
        if injection.at_s <= asked.seen_s:
            before = injection
    return before
