"""Clocks that somebody sets: an hour ahead, an hour back, and right again."""

from collections.abc import Callable

from ..breakable import CLIENTS, GATEWAY, JOBMANAGER, KAFKA, REDIS, TASKMANAGER, WORKER
from ..clocks import no_clocks
from ..fault import Fault
from ..scene import Scene

_HOUR_S = 3_600


def _set(name: str, seconds: int) -> Callable[[Scene], None]:
    return lambda scene: scene.around.clocks[name].set_by(seconds)


FAULTS = tuple(
    Fault(
        f"clock of {whose} {how}",
        Scene.generating,
        _set(name, seconds),
        # All of it, while the clock is wrong: that it is right again must not be what helps.
        until=Scene.caught_up_since_broken,
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
