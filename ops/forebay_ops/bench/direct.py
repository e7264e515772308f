"""The embedder and the index by themselves, called in one process: the baseline of what is answered by meaning.

``python -m forebay_ops.bench.direct FOLDER DTYPE`` keeps its index there, embeds in that precision, and is told what to
do in lines of JSON.
"""

import shutil
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from forebay_jobs.caches.questions import Question, SweepableIndex, Vector, open_index
from forebay_jobs.embedding import Embedder
from forebay_jobs.reuse.neighbourhood import NEAREST
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.sections import EmbeddingConfig, SemanticConfig
from prometheus_client import CollectorRegistry

from .index import made_up
from .pipes import Answers
from .process import Process
from .rig import EMBEDDING_MODEL

_MOST_TOGETHER = 1_024


class Fill(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Questions to be indexed, and vectors that are made up beside them.

    Attributes:
        digests: of the requests that ask the questions.
        context: of all of them.
        entries: how many there are to be in all.
        copy: folder for another index that holds the same.
    """

    questions: list[str]
    digests: list[str]
    context: str
    entries: int
    copy: str


class Filled(msgspec.Struct, frozen=True):
    """What filling took: embedding and adding, and building what makes searches fast."""

    add_s: float
    build_s: float


class LookUp(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Questions to be embedded and looked up, so many in one call."""

    questions: list[str]
    context: str
    together: int
    threads: int


class LookedUp(msgspec.Struct, frozen=True):
    """What looking up came to.

    Attributes:
        seconds: of each call.
        nearest: digest of the question nearest to each.
    """

    seconds: list[float]
    nearest: list[str]


class Direct:
    """The asking end."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def fill(self, order: Fill) -> Filled:
        self._process.tell(order)
        return self._process.hear(Filled)

    def look_up(self, order: LookUp) -> LookedUp:
        self._process.tell(order)
        return self._process.hear(LookedUp)


class _Process:
    """The answering end."""

    def __init__(self, folder: Path, dtype: str) -> None:
        settings = EmbeddingConfig.model_validate({"model": EMBEDDING_MODEL, "batch": _MOST_TOGETHER, "dtype": dtype})
        self._embedder = Embedder(settings, JobMetrics(CollectorRegistry()))
        self._settings = SemanticConfig(path=folder)
        self._index = self._opened()

    def answer(self, order: Fill | LookUp) -> Filled | LookedUp:
        return self._fill(order) if isinstance(order, Fill) else self._look_up(order)

    def _fill(self, order: Fill) -> Filled:
        began_s = time.monotonic()
        self._add(order.digests, self._embedder.embed(order.questions), order.context)
        others, _ = made_up(order.entries - len(order.questions))
        self._add([f"{number:032x}" for number in range(len(others))], others, order.context)
        added_s = time.monotonic()
        self._index.optimise(threading.Event())
        built_s = time.monotonic()
        self._index.close()  # so that all of it is on the disk
        shutil.copytree(self._settings.path, order.copy)
        self._index = self._opened()
        return Filled(added_s - began_s, built_s - added_s)

    def _look_up(self, order: LookUp) -> LookedUp:
        import torch  # seconds to import, and the asking end needs none of it

        torch.set_num_threads(order.threads)
        seconds: list[float] = []
        nearest: list[str] = []
        for start in range(0, len(order.questions), order.together):
            texts = order.questions[start : start + order.together]
            began_s = time.perf_counter()
            found = self._index.nearest(self._embedder.embed(texts), [order.context] * len(texts), NEAREST)
            seconds.append(time.perf_counter() - began_s)
            nearest += [near[0].digest for near in found]
        return LookedUp(seconds, nearest)

    def _add(self, digests: Sequence[str], vectors: Vector, context: str) -> None:
        for digest, vector in zip(digests, vectors, strict=True):
            question = Question(digest=digest, context=context, category="default", tenant="bench", created_ms=0)
            self._index.add(question, vector)

    def _opened(self) -> SweepableIndex:
        return open_index(self._settings, self._embedder.dimensions, self._embedder.version)


if __name__ == "__main__":
    answers = Answers()
    answers.serve(Fill | LookUp, _Process(Path(sys.argv[1]), sys.argv[2]).answer)
