"""Processes that end: as in a crash, and when they are told to."""

import signal
from collections.abc import Callable
from functools import partial

from ..fault import Fault, at_once
from ..scene import Scene

_SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}


def _idle_worker(scene: Scene, number: signal.Signals) -> None:
    scene.signal("worker", number)
    scene.load.resume()


def _stopped_worker(scene: Scene, number: signal.Signals) -> None:
    scene.signal("worker", number)
    if number is not signal.SIGKILL:  # which is heard also by what stands still
        scene.signal("worker", signal.SIGCONT)


def _client(scene: Scene, number: signal.Signals) -> None:
    service = scene.load.services[0]
    service.end(number)
    service.start()


def _submitter(scene: Scene, number: signal.Signals) -> None:
    scene.load.nightly.interrupt(number)


def _part(name: str) -> "_Inject":
    return lambda scene, number: scene.signal(name, number)


def _another(name: str) -> Callable[[Scene], bool]:
    return lambda scene: scene.another_runs(name)


_Inject = Callable[[Scene, signal.Signals], None]
_When = _Until = Callable[[Scene], object]

_TARGETS: tuple[tuple[str, _When, _Inject, _Until, float], ...] = (
    ("worker, idle", Scene.idle, _idle_worker, _another("worker"), 30),
    ("worker, generating", Scene.generating, _part("worker"), _another("worker"), 30),
    ("worker, mid-commit", Scene.stopped_in_transaction, _stopped_worker, _another("worker"), 30),
    ("TaskManager", Scene.checkpoint_half_done, _part("taskmanager"), _another("taskmanager"), 30),
    ("JobManager", Scene.checkpoint_half_done, _part("jobmanager"), _another("jobmanager"), 60),
    ("Redis", Scene.generating, _part("redis"), _another("redis"), 30),
    ("broker", Scene.generating, _part("kafka"), _another("kafka"), 60),
    ("client", Scene.generating, _client, at_once, 30),
    ("batch submitter", Scene.batch_half_done, _submitter, at_once, 30),
    ("gateway", Scene.calling, _part("gateway"), _another("gateway"), 30),
)

FAULTS = tuple(
    Fault(f"{word} {target}", when, partial(inject, number=number), until, within_s=within_s)
    for target, when, inject, until, within_s in _TARGETS
    for word, number in _SIGNALS.items()
)
