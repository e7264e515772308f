"""What may not grow while the load goes on: memory, descriptors, keys that never expire, state."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forebay_ops.cli.tables import figures_table
from rich.table import Table

from .scene import Scene
from .usage import Usage

_BATCH_EVERY_S = 180.0
"""Twice what one takes, and more."""


@dataclass(frozen=True)
class Slack:
    """How much something may grow: by a share of what it was, and by so much besides."""

    share: float
    besides: float

    def most(self, before: float) -> float:
        """What it may be in the end."""
        return before * (1 + self.share) + self.besides


MEMORY_MB = Slack(0.1, 16)
"""Code is still compiled, and caches of a fixed length fill, long after a start."""
_DESCRIPTORS = Slack(0.05, 10)
"""Connections come and go."""
_STATE_MB = Slack(0, 0.3)
"""Requests that are in flight at the moment of a checkpoint are in it; all of it is 0.2 MB."""
_NONE = Slack(0, 0)


@dataclass(frozen=True)
class Size:
    """One size, as it is at a moment.

    Attributes:
        value: in the unit that its name says.
        slack: how much it may grow; absent: it is shown beside the others, and something else bounds it.
        most: it may grow up to this.
    """

    value: float
    slack: Slack | None = None
    most: float | None = None


def go_on(scene: Scene, minutes: float, say: Callable[[str], object]) -> None:
    """Let the load go on, with a batch from time to time; none runs any more in the end."""
    batch_s = time.monotonic()
    end_s = batch_s + minutes * 60
    while (left_s := end_s - time.monotonic()) > 0:
        say(f"{left_s / 60:.1f} min to go")
        if batch_s <= time.monotonic() < end_s - _BATCH_EVERY_S / 2:
            scene.load.nightly.half_done()
            batch_s += _BATCH_EVERY_S
        time.sleep(min(5.0, left_s))


def sizes(scene: Scene) -> dict[str, Size]:
    """What may not grow, by name with its unit; and how many requests there were until now."""
    found: dict[str, Size] = {}
    for name, pid in processes(scene).items():
        usage = Usage(pid)
        if name != "redis":  # its keys are its memory
            found[f"{name}: memory, MB"] = Size(usage.memory, MEMORY_MB)
        if (living := usage.living) is not None:
            found[f"{name}: lives in the heap, MB"] = Size(living, MEMORY_MB)
        found[f"{name}: descriptors"] = Size(usage.descriptors, _DESCRIPTORS)
    used = scene.redis.info("memory")
    times = _times_to_live(scene)
    found["redis: what it holds, MB"] = Size(used["used_memory"] / 1e6, most=used["maxmemory"] / 1e6)
    found["redis: keys with a time to live"] = Size(sum(left_s != -1 for left_s in times))
    found["redis: keys without one"] = Size(times.count(-1), _NONE)
    found["Flink: state of the last checkpoint, MB"] = Size(
        _last_checkpoint(scene).get("state_size", 0) / 1e6, _STATE_MB
    )
    found["requests until then"] = Size(len(scene.checker.requests()))
    return found


def processes(scene: Scene) -> dict[str, int]:
    """The process of each part, and of each service, by its name."""
    parts = {part.name: scene.pid(part.name) for part in scene.running.stack.status()}
    return parts | {service.life: service.pid for service in scene.load.services}


def _times_to_live(scene: Scene) -> list[int]:
    """Of each key of Redis, in seconds; -1 where it has none."""
    pipeline = scene.redis.pipeline(transaction=False)
    for key in scene.redis.scan_iter(count=1000):
        pipeline.ttl(key)
    return pipeline.execute()


def _last_checkpoint(scene: Scene) -> dict[str, Any]:
    jobs = (scene.running.rest("/jobs/overview") or {}).get("jobs", [])
    running = next((job["jid"] for job in jobs if job["state"] == "RUNNING"), "")
    told = scene.running.rest(f"/jobs/{running}/checkpoints") or {}
    return (told.get("latest") or {}).get("completed") or {}


@dataclass(frozen=True)
class Compared:
    """One size at the beginning, half way, and at the end."""

    name: str
    values: tuple[float, ...]
    most: float | None
    """What it may be in the end; None: it is not judged."""

    @property
    def grew(self) -> bool:
        """Whether it is more than it may."""
        return self.most is not None and self.values[-1] > self.most


def compared(*looks: dict[str, Size]) -> list[Compared]:
    """Each size as it was with each look."""
    return [
        Compared(
            name,
            tuple(look[name].value for look in looks),
            size.slack.most(size.value) if size.slack else size.most,
        )
        for name, size in looks[0].items()
    ]


def table(sizes: list[Compared]) -> Table:
    """A line for each size."""
    shown = figures_table("size", "before", "half way", "after", "may be")
    for one in sizes:
        digits = 1 if "MB" in one.name else 0
        most = "" if one.most is None else f"{one.most:.{digits}f}"
        shown.add_row(one.name, *(f"{value:.{digits}f}" for value in one.values), most)
    return shown
