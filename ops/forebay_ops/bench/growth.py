"""How the embedded index grows: lookups, recall, memory and building by the number of its entries."""

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from forebay_jobs.caches.questions import QuestionIndex
from forebay_schemas.sections import SemanticConfig

from .caches import other_work
from .harness import Bench, Goal, Measure, Say
from .index import Vectors, build, filled, look_up, made_up, one_by_one, truly_nearest

SIZES = (10_000, 50_000, 200_000)
_P50 = "p50_ms"


@contextmanager
def bench(most: int, say: Say) -> Iterator[Bench]:
    """Indexes of each size up to ``most``, of whole vectors and of vectors of one byte a dimension."""
    facts: dict[str, str | float] = {}
    sides: dict[str, Measure] = {}
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder, ExitStack() as stack:
        for entries in (size for size in SIZES if size <= most):
            known, asked = made_up(entries)
            truth = truly_nearest(known, asked)
            for prefix, int8 in (("", False), ("int8_", True)):
                side = f"{entries:,}{', int8' if int8 else ''}"
                place = Path(folder) / side
                before = _memory()
                index = filled(stack, SemanticConfig(path=place, int8=int8), known, side, facts, say)
                say(f"{side}: building")
                facts[f"{side}, s to build"] = build(index, asked)["s to build"]
                facts[f"{side}, bytes of memory an entry"] = (_memory() - before) / entries
                facts[f"{side}, bytes of disk an entry"] = _bytes_in(place) / entries
                sides[side] = partial(_looked_up, index, asked, truth, prefix)
                if entries > SIZES[0]:
                    most_times = round(math.log(entries, SIZES[0]), 3)
                    goals.append(Goal(side=side, metric=f"{prefix}{_P50}", at_most=most_times))
        yield Bench(sides, tuple(goals), facts)


def _looked_up(index: QuestionIndex, asked: Vectors, truth: npt.NDArray[np.int64], prefix: str) -> Mapping[str, float]:
    cold_ms, _ = one_by_one(index, asked, other_work())
    figures = {**look_up(index, asked, truth), f"cold_{_P50}": float(np.median(cold_ms))}
    return {f"{prefix}{name}": value for name, value in figures.items()}


def _memory() -> int:
    return psutil.Process().memory_info().rss


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
