"""Processes that stand still for longer than others wait for them, and then go on as if nothing had been."""

import os
import signal
from collections.abc import Callable

from ..fault import Fault
from ..scene import Scene

SESSIONS_S = 12.0
"""Longer than any session time-out of the stack, where nobody is there to tell that one has passed."""


def _stop(pid: "_Pid") -> Callable[[Scene], None]:
    return lambda scene: os.kill(pid(scene), signal.SIGSTOP)


def _go_on(pid: "_Pid") -> Callable[[Scene], None]:
    return lambda scene: os.kill(pid(scene), signal.SIGCONT)


def _part(name: str) -> "_Pid":
    return lambda scene: scene.pid(name)


def _client(scene: Scene) -> int:
    return scene.load.services[0].pid


def _submitter(scene: Scene) -> int:
    return scene.load.nightly.pid


_Pid = Callable[[Scene], int]


def _second_joined_and_first_stopped_in_transaction(scene: Scene) -> bool:
    return scene.second.joined() and scene.stopped_in_transaction()


def _its_group_did_without(scene: Scene) -> bool:
    return scene.second.members() == {1}


def _second_is_ready_and_checkpoint_half_done(scene: Scene) -> bool:
    return scene.second_taskmanager.joined() and scene.checkpoint_half_done()


def _second_took_over(scene: Scene) -> bool:
    return scene.second_taskmanager.has_job() and scene.job_runs() and scene.answered_since_broken()


FAULTS = (
    Fault(
        "SIGSTOP worker in a transaction, others take over",
        when=_second_joined_and_first_stopped_in_transaction,
        inject=lambda scene: None,  # it stands still already
        until=_its_group_did_without,
        heal=_go_on(_part("worker")),
        within_s=60,
        after=lambda scene: scene.second.leave(),
    ),
    Fault(
        "SIGSTOP TaskManager until it is lost",
        when=Scene.checkpoint_half_done,
        inject=_stop(_part("taskmanager")),
        until=lambda scene: not scene.job_runs(),
        heal=_go_on(_part("taskmanager")),
        within_s=60,
    ),
    Fault(
        "SIGSTOP TaskManager, another takes over",
        when=_second_is_ready_and_checkpoint_half_done,
        inject=_stop(_part("taskmanager")),
        until=_second_took_over,
        heal=_go_on(_part("taskmanager")),
        within_s=60,
        after=lambda scene: scene.second_taskmanager.leave(),
    ),
    *(
        Fault(
            f"SIGSTOP {name} for {SESSIONS_S:g} s",
            when=when,
            inject=_stop(pid),
            until=lambda scene: scene.broken_for_s() > SESSIONS_S,
            heal=_go_on(pid),
            within_s=within_s,
        )
        for name, pid, when, within_s in (
            ("broker", _part("kafka"), Scene.generating, 60),
            ("JobManager", _part("jobmanager"), Scene.checkpoint_half_done, 60),
            ("Redis", _part("redis"), Scene.generating, 30),
            ("gateway", _part("gateway"), Scene.calling, 30),
            ("client", _client, Scene.generating, 30),
            ("batch submitter", _submitter, Scene.batch_half_done, 30),
        )
    ),
)
