"""Redis that takes nothing more, answers late, or has forgotten everything."""

import signal
import threading
import time
from collections.abc import Callable

from redis.exceptions import OutOfMemoryError

from ...waiting import eventually
from ..fault import Fault
from ..scene import Scene

_LASTS_S = 5.0
_SLOW_S = 0.5
"""Twice ``redis.timeout_ms``."""


def _fill(scene: Scene) -> None:
    scene.redis.config_set("maxmemory-policy", "noeviction")
    scene.redis.config_set("maxmemory", scene.redis.info("memory")["used_memory"] // 2)
    eventually(lambda: _is_full(scene), "Redis is full")


def _is_full(scene: Scene) -> bool:
    try:
        scene.redis.set("chaos", "one more")
    except OutOfMemoryError:
        return True
    return False


def _make_room(scene: Scene) -> None:
    scene.redis.config_set("maxmemory", "256mb")
    scene.redis.config_set("maxmemory-policy", "allkeys-lru")


def _slow_down(scene: Scene) -> None:
    """Each call finds the server in the middle of something that takes half a second."""

    def sleep_on() -> None:
        while scene.broken_for_s() < _LASTS_S:
            scene.redis.execute_command("DEBUG", "SLEEP", str(_SLOW_S))

    threading.Thread(target=sleep_on).start()
    eventually(lambda: _takes_s(scene.redis.ping) > _SLOW_S / 2, "Redis is slow")


def _takes_s(call: Callable[[], object]) -> float:
    started_s = time.monotonic()
    call()
    return time.monotonic() - started_s


def _lasted(scene: Scene) -> bool:
    """It has, and requests were answered meanwhile."""
    return scene.broken_for_s() > _LASTS_S and scene.answered_since_broken()


def _forget_and_set_back(scene: Scene) -> None:
    """The job reads requests again whose ids and epochs are not those of the first reading."""
    scene.signal("taskmanager", signal.SIGKILL)
    scene.redis.flushall()


FAULTS = (
    Fault("Redis full", Scene.generating, _fill, until=_lasted, heal=_make_room),
    Fault(f"Redis slow ({_SLOW_S * 1000:g} ms)", Scene.generating, _slow_down, until=_lasted),
    Fault("Redis flushed", Scene.generating, lambda scene: scene.redis.flushall()),
    Fault(
        "kill -9 TaskManager, and Redis flushed",
        when=Scene.checkpoint_half_done,
        inject=_forget_and_set_back,
        until=lambda scene: scene.another_runs("taskmanager"),
    ),
)
