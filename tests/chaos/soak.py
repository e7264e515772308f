"""What may not grow while the load goes on: memory, descriptors, keys that never expire, state."""

import time
from collections.abc import Callable
from typing import Any

import psutil
from forebay_ops.cli.tables import figures_table
from rich.table import Table

from .scene import Scene


def go_on(minutes: float, say: Callable[[str], object]) -> None:
    """Let the load go on."""
    end_s = time.monotonic() + minutes * 60
    while (left_s := end_s - time.monotonic()) > 0:
        say(f"{left_s / 60:.1f} min to go")
        time.sleep(min(5.0, left_s))


def sizes(scene: Scene) -> dict[str, float]:
    """What may not grow, by name with its unit; and how many requests there were until now."""
    found: dict[str, float] = {}
    for part in scene.running.stack.status():
        whole = [one for one in _family(scene.pid(part.name)) if one.is_running()]
        found[f"{part.name}: memory, MB"] = sum(one.memory_info().rss for one in whole) / 1e6
        found[f"{part.name}: descriptors"] = sum(one.num_fds() for one in whole)
    keys = list(scene.redis.scan_iter(count=1000))
    found["Redis: keys"] = len(keys)
    found["Redis: keys without time to live"] = sum(scene.redis.ttl(key) == -1 for key in keys)
    found["Flink: state of the last checkpoint, MB"] = _last_checkpoint(scene).get("state_size", 0) / 1e6
    found["requests"] = len(scene.checker.requests())
    return found


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _last_checkpoint(scene: Scene) -> dict[str, Any]:
    jobs = (scene.running.rest("/jobs/overview") or {}).get("jobs", [])
    running = next((job["jid"] for job in jobs if job["state"] == "RUNNING"), "")
    told = scene.running.rest(f"/jobs/{running}/checkpoints") or {}
    return (told.get("latest") or {}).get("completed") or {}


def compared(before: dict[str, float], after: dict[str, float]) -> Table:
    """A line for each size."""
    shown = figures_table("size", "before", "after")
    for name, size in before.items():
        digits = 1 if "MB" in name else 0
        shown.add_row(name, f"{size:.{digits}f}", f"{after[name]:.{digits}f}")
    return shown
