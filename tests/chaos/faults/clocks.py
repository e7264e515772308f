"""Clocks that somebody sets: an hour ahead, an hour back, and right again."""

import time
from collections.abc import Callable

from ..breakable import CLIENTS, GATEWAY, JOBMANAGER, KAFKA, REDIS, TASKMANAGER, WORKER
from ..clocks import no_clocks
from ..fault import Fault
from ..scene import Scene

_HOUR_S = 3_600
_NEAR_S = 60
"""What was told a moment ago is not older."""


def _of_redis(scene: Scene) -> float:
    seconds, _ = scene.redis.time()
    return seconds


_TOLD_BY: dict[str, Callable[[Scene], float]] = {KAFKA: lambda scene: scene.checker.reply_appended_s, REDIS: _of_redis}
"""The time of day by those that tell it. Nothing else shows that they took the clock for theirs: a binary that is
linked statically does not, and bears everything. The others are Python's and Java's programs, as is the broker."""
_LASTS_S = 5.0
"""Heartbeats, checkpoints and timers meet it."""


def _set(name: str, seconds: int) -> Callable[[Scene], None]:
    return lambda scene: scene.around.clocks[name].set_by(seconds)


def _borne(name: str, seconds: int) -> Callable[[Scene], bool]:
    """All of it, while the clock is wrong: that it is right again must not be what helps."""

    def until(scene: Scene) -> bool:
        told = _TOLD_BY.get(name)
        is_set = _is_loaded(scene, name) if told is None else abs(told(scene) - time.time() - seconds) < _NEAR_S
        return is_set and scene.caught_up_since_broken() and scene.broken_for_s() > _LASTS_S

    return until


def _is_loaded(scene: Scene, name: str) -> bool:
    pids = [service.pid for service in scene.load.services] if name == CLIENTS else [scene.pid(name)]
    return all(scene.around.clocks[name].is_before_libc_in(pid) for pid in pids)


FAULTS = tuple(
    Fault(
        f"clock of {whose} {how}",
        Scene.generating,
        _set(name, seconds),
        until=_borne(name, seconds),
        heal=_set(name, 0),
        impossible=no_clocks,
    )
    for name, whose in (
        (WORKER, "worker"),
        (TASKMANAGER, "TaskManager"),
        (JOBMANAGER, "JobManager"),
        (GATEWAY, "gateway"),
        (CLIENTS, "clients"),
        (KAFKA, "broker"),
        (REDIS, "Redis"),
    )
    for how, seconds in (("an hour ahead", _HOUR_S), ("an hour back", -_HOUR_S))
)
