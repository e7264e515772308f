"""Disks that are full, take nothing, or have lost what was on them: under Kafka, and under the index of questions."""

import random
import signal

from ...small_disk import SmallDisk, no_small_disks
from ...waiting import eventually
from ..breakable import INDEX_DISK, KAFKA_DISK
from ..fault import Fault
from ..scene import Scene

_FULL_S = 10.0
"""Time enough for Kafka, once it has halted, to be started again in vain."""
_SPOILT_BYTES = 4_096
"""At the beginning of each file, where engines keep what they need first."""


def _fill_kafkas(scene: Scene) -> None:
    scene.watch("kafka")
    scene.around.disks[KAFKA_DISK].fill()


def _kafka_halted(scene: Scene) -> bool:
    return not scene.signalled_runs() and scene.broken_for_s() > _FULL_S


def _index(scene: Scene) -> SmallDisk:
    return scene.around.disks[INDEX_DISK]


def _lose_taskmanager(scene: Scene) -> None:
    scene.signal("taskmanager", signal.SIGKILL)
    eventually(lambda: not scene.signalled_runs(), "the TaskManager is gone")


def _spoil(scene: Scene) -> None:
    """What the files of the index hold is something else, under the eyes of the job that uses them."""
    chance = random.Random(scene.running.config.kafka.bootstrap)
    for file in scene.running.stack.home.qdrant.rglob("*"):
        if file.is_file() and (size := file.stat().st_size):
            with file.open("r+b") as spoilt:
                spoilt.write(chance.randbytes(min(size, _SPOILT_BYTES)))
    _lose_taskmanager(scene)


def _lose_and_take_nothing(scene: Scene) -> None:
    _lose_taskmanager(scene)
    _index(scene).take_nothing()


def _lose_and_fill(scene: Scene) -> None:
    _lose_taskmanager(scene)
    _index(scene).fill()


def _answered_without(scene: Scene) -> bool:
    return scene.answered_since_broken() and not scene.index_up()


def _wait_for_index(scene: Scene) -> None:
    eventually(scene.index_up, "questions are found by meaning again")


FAULTS = (
    Fault(
        "Kafka's disk full",
        Scene.generating,
        inject=_fill_kafkas,
        until=_kafka_halted,
        heal=lambda scene: scene.around.disks[KAFKA_DISK].make_room(),
        within_s=60,
        impossible=no_small_disks,
    ),
)

INDEX = (
    Fault(
        "index on a full disk",
        Scene.generating,
        inject=lambda scene: _index(scene).fill(),
        until=_answered_without,
        heal=lambda scene: _index(scene).make_room(),
        after=_wait_for_index,
        impossible=no_small_disks,
    ),
    Fault(
        "index spoilt, kill -9 TaskManager",
        Scene.checkpoint_half_done,
        inject=_spoil,
        until=lambda scene: scene.another_runs("taskmanager"),
        after=_wait_for_index,
    ),
    *(
        Fault(
            f"kill -9 TaskManager, its index {how}",
            Scene.checkpoint_half_done,
            inject=inject,
            until=_answered_without,
            heal=heal,
            after=_wait_for_index,
            impossible=no_small_disks,
        )
        for how, inject, heal in (
            ("read-only", _lose_and_take_nothing, lambda scene: _index(scene).take_again()),
            ("on a full disk", _lose_and_fill, lambda scene: _index(scene).make_room()),
        )
    ),
)
