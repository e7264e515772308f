"""What a request costs in processor time at more parallelism, on one TaskManager and on two."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from forebay_schemas.records import CacheStatus
from forebay_schemas.sections import SemanticConfig

from . import prompts
from .deck import deck
from .filling import as_long, fill
from .harness import Bench, Goal, Say
from .load import Load
from .process import Process
from .rig import Rig, category, rig, synthetic_settings

SHAPES = ((1, 1), (2, 1), (4, 1), (2, 2), (4, 2))
"""Parallelism, and TaskManagers."""
FEW_SHAPES = ((1, 1), (2, 1), (4, 2))
"""Each cluster takes a minute to start, and a part of the machine while others are asked."""
_HITS, _MISSES = 5_000, 1_000
_WARM = 10_000
"""Hits for each TaskManager before anything is measured: a JVM that is young spends as much on compiling as on them."""
_MOST_MISSES = 20_000
_MOST_TIMES = 1.15


@dataclass(frozen=True, slots=True)
class Shape:
    """A cluster, its installation, and the load on it."""

    servers: list[Process]
    hits: Load
    misses: Load

    def measure(self) -> dict[str, float]:
        """Processor time of everything that answers: the TaskManagers, the stores, the broker and the worker."""
        return {
            "hit_cpu_s_per_1000": self._cpu_s_per_1000(self.hits, _HITS),
            "miss_cpu_s_per_1000": self._cpu_s_per_1000(self.misses, _MISSES),
        }

    def _cpu_s_per_1000(self, load: Load, count: int) -> float:
        used_s = self._cpu_s()
        load.run(count)
        return (self._cpu_s() - used_s) * 1000 / count

    def _cpu_s(self) -> float:
        return sum(process.cpu_s() for process in self.servers)


@contextmanager
def bench(server: SemanticConfig | None, shapes: Sequence[tuple[int, int]], say: Say) -> Iterator[Bench]:
    """The same requests to a cluster of each shape. All of them run; those that are not asked rest.

    Args:
        server: see ``rig``. Without one only equal requests are reused: the embedded index serves one process.
        shapes: parallelism and TaskManagers; the first is the baseline.
    """
    with rig(say, also=("redis",), server=server) as it:
        sides = {_name(*shape): _shape(it, *shape, server is not None, say) for shape in shapes}
        goals = [
            Goal(side=name, metric=f"{kind}_cpu_s_per_1000", at_most=_MOST_TIMES)
            for name in list(sides)[1:]
            for kind in ("hit", "miss")
        ]
        facts: dict[str, str | float] = {"index": it.index if server else "none"}
        yield Bench({name: side.measure for name, side in sides.items()}, tuple(goals), facts, it.processes)


def _name(parallelism: int, task_managers: int) -> str:
    return f"{parallelism} on {task_managers}"


def _shape(it: Rig, parallelism: int, task_managers: int, by_meaning: bool, say: Say) -> Shape:
    say(f"parallelism {_name(parallelism, task_managers)} TaskManagers")
    cluster = it.start("flink", task_managers=task_managers, slots=parallelism // task_managers)
    settings = synthetic_settings()
    settings["models"]["model"]["synthetic"] = {"latency_ms": 1.0}
    own = {
        "categories": {"default": category(reuse="semantic" if by_meaning else "exact")},
        "semantic": {"url": _NOBODY},
        "flink": {"parallelism": parallelism, "task_managers": task_managers},
    }
    config = it.installation(**settings | own)
    requests = prompts.asked(prompts.reusable(_HITS, seed=1))
    texts = [as_long(request, number, config) for number, request in enumerate(requests)]
    fill(config, requests, texts)
    config = it.job(config)
    worker = it.worker(config)
    hits = Load(it, config, deck(requests, texts), statuses=[CacheStatus.EXACT])
    hits.run(_WARM * task_managers)
    new = prompts.asked([f"{text} Thank you." for text in prompts.reusable(_MOST_MISSES, seed=2)])
    return Shape(
        servers=[*cluster.values(), it.servers["kafka"], it.servers["redis"], worker],
        hits=hits,
        misses=Load(it, config, deck(new, [None] * len(new), over_and_over=False), statuses=[CacheStatus.MISS]),
    )


_NOBODY = "http://localhost:1"
"""Where no server is: two TaskManagers may not be configured without one, and nothing is asked of it."""
