"""The embedder and the index by themselves, called in one process: the baseline of what is answered by meaning.

``python -m forebay_ops.bench.direct CONFIG OTHER`` embeds as CONFIG says, fills its index and that of OTHER, looks up
in its own, and is told what to do in lines of JSON.
"""

import shutil
import sys
import threading
import time
from collections.abc import Sequence

import msgspec
import numpy as np
from forebay_jobs.caches.questions import Question, SweepableIndex, Vector, open_index
from forebay_jobs.embedding import Embedder
from forebay_jobs.reuse.neighbourhood import NEAREST
from forebay_schemas.config import Config, load_config
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.sections import SemanticConfig
from prometheus_client import CollectorRegistry

from .index import made_up
from .pipes import Answers
from .process import Process

_MOST_TOGETHER = 1_024


class Fill(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Questions to be indexed, and vectors that are made up beside them.

    Attributes:
        digests: of the requests that ask the questions.
        context: of all of them.
        entries: how many there are to be in all.
    """

    questions: list[str]
    digests: list[str]
    context: str
    entries: int


class Filled(msgspec.Struct, frozen=True):
    """What it was done with.

    Attributes:
        dtype: what the model computes in.
    """

    dtype: str


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

    def __init__(self, config: Config, other: Config) -> None:
        self._embedder = Embedder(config.embedding, JobMetrics(CollectorRegistry()))
        self._settings, self._other = config.semantic, other.semantic
        self._index = self._opened(self._settings)

    def answer(self, order: Fill | LookUp) -> Filled | LookedUp:
        return self._fill(order) if isinstance(order, Fill) else self._look_up(order)

    def _fill(self, order: Fill) -> Filled:
        others, _ = made_up(order.entries - len(order.questions))
        vectors = np.concatenate([self._embedder.embed(order.questions), others])
        digests = [*order.digests, *(f"{number:032x}" for number in range(len(others)))]
        _fill(self._index, digests, vectors, order.context)
        self._index.close()  # so that all of it is on the disk
        if self._other.url is None:
            shutil.copytree(self._settings.path, self._other.path)
        else:
            other = self._opened(self._other)
            _fill(other, digests, vectors, order.context)
            other.close()
        self._index = self._opened(self._settings)
        return Filled(self._embedder.dtype)

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

    def _opened(self, settings: SemanticConfig) -> SweepableIndex:
        return open_index(settings, self._embedder.dimensions, self._embedder.version)


def direct_config(config: Config, dtype: str) -> Config:
    """An installation's configuration as this process wants it: no batch is too large, and ``dtype`` holds."""
    update = {"batch": _MOST_TOGETHER, "dtype": dtype}
    return config.model_copy(update={"embedding": config.embedding.model_copy(update=update)})


def _fill(index: SweepableIndex, digests: Sequence[str], vectors: Vector, context: str) -> None:
    for digest, vector in zip(digests, vectors, strict=True):
        index.add(Question(digest=digest, context=context, category="default", tenant="bench", created_ms=0), vector)
    index.optimise(threading.Event())


if __name__ == "__main__":
    answers = Answers()
    answers.serve(Fill | LookUp, _Process(load_config(sys.argv[1]), load_config(sys.argv[2])).answer)
