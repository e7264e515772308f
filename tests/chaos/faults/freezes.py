"""Processes that stand still for longer than others wait for them, and then go on as if nothing had been."""

import os
import signal
from collections.abc import Callable

from ..fault import Fault
from ..scene import Scene

SESSIONS_S = 12.0
"""Longer than any session time-out of the stack, where nobody is there to tell that one has passed."""


def _send(number: signal.Signals, pid: Callable[[Scene], int]) -> Callable[[Scene], None]:
    return lambda scene: os.kill(pid(scene), number)


def _client(scene: Scene) -> int:
    return scene.load.services[0].pid


def _submitter(scene: Scene) -> int:
    return scene.load.nightly.pid


def _stop(part: str) -> Callable[[Scene], None]:
    return lambda scene: scene.signal(part, signal.SIGSTOP)


def _go_on(part: str) -> Callable[[Scene], None]:
    return lambda scene: scene.signal(part, signal.SIGCONT)


def _second_joined_and_first_stopped_in_transaction(scene: Scene) -> bool:
    return scene.second.joined() and scene.stopped_in_transaction()


def _its_group_did_without(scene: Scene) -> bool:
    return scene.second.members() == {1}


FAULTS = (
    Fault(
        "SIGSTOP worker in a transaction, others take over",
        when=_second_joined_and_first_stopped_in_transaction,
        inject=lambda scene: None,  # it stands still already
        until=_its_group_did_without,
        heal=_go_on("worker"),
        within_s=60,
        after=lambda scene: scene.second.leave(),
    ),
    Fault(
        "SIGSTOP TaskManager until it is lost",
        when=Scene.checkpoint_half_done,
        inject=_stop("taskmanager"),
        until=lambda scene: not scene.job_runs(),
        heal=_go_on("taskmanager"),
        within_s=60,
    ),
    *(
        Fault(
            f"SIGSTOP {name} for {SESSIONS_S:g} s",
            when=when,
            inject=_stop(part),
            until=lambda scene: scene.broken_for_s() > SESSIONS_S,
            heal=_go_on(part),
            within_s=within_s,
        )
        for name, part, when, within_s in (
            ("broker", "kafka", Scene.generating, 60),
            ("JobManager", "jobmanager", Scene.checkpoint_half_done, 60),
            ("Redis", "redis", Scene.generating, 30),
            ("gateway", "gateway", Scene.calling, 30),
        )
    ),
    *(
        Fault(
            f"SIGSTOP {name} for {SESSIONS_S:g} s",
            when=when,
            inject=_send(signal.SIGSTOP, pid),
            until=lambda scene: scene.broken_for_s() > SESSIONS_S,
            heal=_send(signal.SIGCONT, pid),
        )
        for name, pid, when in (
            ("client", _client, Scene.generating),
            ("batch submitter", _submitter, Scene.batch_half_done),
        )
    ),
)
