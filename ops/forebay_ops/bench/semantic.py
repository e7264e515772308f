"""Answers by meaning: every question in new words, against an index of 50,000, beside embedder and index alone."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import msgspec
from forebay_schemas.canonical import digests
from forebay_schemas.config import Config
from forebay_schemas.records import CacheStatus
from forebay_schemas.sections import SemanticConfig

from . import prompts, wordings
from .deck import Deck, deck
from .direct import Direct, Fill, LookUp, direct_config
from .filling import as_long, fill
from .harness import Bench, Goal, Say, Start, percentiles
from .load import Load, cpu_s
from .process import BenchFailed
from .rig import Rig, category, rig, synthetic_settings

ENTRIES = 50_000
DIRECT, ONE_BY_ONE, SEMANTIC = "embedder and index", "one by one", "hits by meaning"
_KNOWN = 480
"""Real questions among the entries, those that are asked in other words; the others are vectors that are made up."""
_SEED = 1
_AT_ONCE = 1_500
_ALONE = 300
_LASTING_S = 8.0
_USED_FOR_THROUGHPUT = 9_000
"""Wordings, of 27,360: for five rounds, and to warm up."""
_MOST_ALONE = 2_500
"""In a round of latencies: there are words for six of them."""
_SIMILARITY = 0.95
"""The wordings are nearer than this to their own question, and to no other."""
_TOGETHER = (8, 16, 32, 64, 128)
_TRIED = 256
_LEAST_OF_DIRECT = 0.8
_MOST_TIMES_DIRECT = 3.0


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The job with its index, and embedder and index by themselves, with the same questions.

    Attributes:
        known: the known questions as they are, for exact hits.
        reworded: in other words.
        facts: the index, and the model.
    """

    it: Rig
    config: Config
    known: Deck
    reworded: Deck
    alone: "Alone"
    facts: dict[str, str | float]

    def hits(self, *, after: int = 0, over_and_over: bool = False) -> Load:
        """A load of questions in other words.

        Args:
            after: so many of the wordings, which another load may have used.
            over_and_over: whether words that were used are used again where there are no others.
        """
        cards = msgspec.structs.replace(self.reworded, cards=self.reworded.cards[after:], over_and_over=over_and_over)
        return Load(self.it, self.config, cards, statuses=[CacheStatus.SEMANTIC])


class Alone:
    """Embedder and index by themselves."""

    def __init__(self, direct: Direct, context: str, questions: list[wordings.Asked], known: list[str]) -> None:
        self._direct = direct
        self._context = context
        self._questions = questions
        self._known = known
        self._next = 0

    def best(self) -> tuple[int, int]:
        """How many in one call, and how many threads, make the most questions a second."""
        cores = len(os.sched_getaffinity(0))
        tried = [(together, threads) for together in _TOGETHER for threads in {1, cores}]
        return max(tried, key=lambda one: self.per_s(_TRIED, *one))

    def per_s(self, count: int, together: int, threads: int) -> float:
        """Questions a second."""
        return count / sum(self._look_up(count, together, threads))

    def latencies_ms(self, count: int, threads: int) -> list[float]:
        """Of questions one by one."""
        return [seconds * 1000 for seconds in self._look_up(count, 1, threads)]

    def _look_up(self, count: int, together: int, threads: int) -> list[float]:
        asked = [self._questions[(self._next + number) % len(self._questions)] for number in range(count)]
        self._next += count
        texts = [one.text for one in asked]
        order = LookUp(questions=texts, context=self._context, together=together, threads=threads)
        found = self._direct.look_up(order)
        wrong = sum(self._known[one.known] != nearest for one, nearest in zip(asked, found.nearest, strict=True))
        if wrong:
            raise BenchFailed(f"of {count} questions the index finds another one nearer for {wrong}")
        return found.seconds


def throughput(it: Pipeline, say: Say) -> Bench:
    """Questions a second where more wait than can be answered."""
    say("looking for the best batch and threads of embedder and index")
    together, threads = it.alone.best()
    load = it.hits()

    def ours() -> dict[str, float]:
        used_s = cpu_s(it.it)
        run = load.run(_AT_ONCE)
        return {
            "requests_per_s": run.requests_per_s,
            "cpu_ms_per_request": (cpu_s(it.it) - used_s) * 1000 / _AT_ONCE,
        }

    return Bench(
        sides={
            DIRECT: lambda: {"requests_per_s": it.alone.per_s(_AT_ONCE, together, threads)},
            SEMANTIC: ours,
        },
        goals=(Goal(side=SEMANTIC, metric="requests_per_s", at_least=_LEAST_OF_DIRECT),),
        facts={**it.facts, "best alone": f"{together} in one call, {threads} threads"},
        processes=it.it.processes,
    )


def latency(it: Pipeline, say: Say) -> Bench:
    """Latency at half of what can be answered."""
    load = it.hits(after=_USED_FOR_THROUGHPUT)
    say("looking how many a second there are at most")
    load.run(_AT_ONCE)
    rate_per_s = load.run(_AT_ONCE).requests_per_s / 2
    count = min(round(rate_per_s * _LASTING_S), _MOST_ALONE)
    cores = len(os.sched_getaffinity(0))
    threads = min((1, cores), key=lambda count: sum(it.alone.latencies_ms(_ALONE, count)))
    shares = (50, 95, 99)
    return Bench(
        sides={
            ONE_BY_ONE: lambda: percentiles(it.alone.latencies_ms(_ALONE, threads), shares=shares),
            SEMANTIC: lambda: load.run(count, rate_per_s).percentiles(),
        },
        goals=(Goal(side=SEMANTIC, metric="p95_ms", at_most=_MOST_TIMES_DIRECT),),
        facts={**it.facts, "requests a second": rate_per_s, "threads alone": threads},
        processes=it.it.processes,
    )


@contextmanager
def by_meaning(
    dtype: str,
    calls: int,
    server: SemanticConfig | None,
    benchmarks: Mapping[str, Callable[[Pipeline, Say], Bench]],
    say: Say,
) -> Iterator[Mapping[str, Start]]:
    """These benchmarks on one pipeline, one after the other; for the first three see ``pipeline``."""
    with pipeline(say, dtype, calls, server) as it:
        yield {name: partial(_on, it, bench) for name, bench in benchmarks.items()}


def _on(it: Pipeline, bench: Callable[[Pipeline, Say], Bench], say: Say) -> AbstractContextManager[Bench]:
    return nullcontext(bench(it, say))


@contextmanager
def pipeline(say: Say, dtype: str, calls: int, server: SemanticConfig | None) -> Iterator[Pipeline]:
    """The job, with an index of ``ENTRIES`` and an answer to each known question.

    Args:
        dtype: what the embedding model computes in, on both sides.
        calls: of the model at a time, in the job.
        server: see ``rig``.
    """
    with rig(say, also=("redis", "flink"), server=server) as it:
        own = {
            "categories": {"default": category(policy="fixed", similarity=_SIMILARITY)},
            # The entries that are made up have no answers, so that a sweep would drop them.
            "semantic": {"sweep_interval_s": 86_400.0},
        }
        config = it.installation(**synthetic_settings() | own)
        known = prompts.asked(wordings.known(_KNOWN, _SEED))
        questions = wordings.wordings(_KNOWN, _SEED)
        reworded = prompts.asked([question.text for question in questions])
        texts = [as_long(request, number, config) for number, request in enumerate(known)]
        fill(config, known, texts)
        named = [digests(request) for request in known]
        context = named[0].context or ""
        alone = it.with_own_index(direct_config(config, dtype))
        command = [sys.executable, "-m", "forebay_ops.bench.direct", str(it.write(alone)), str(it.write(config))]
        direct = Direct(it.process("direct", command, piped=True))
        say(f"indexing {ENTRIES:,} questions (half a minute or more)")
        exact = [one.exact for one in named]
        filled = direct.fill(
            Fill(
                questions=wordings.known(_KNOWN, _SEED),
                digests=exact,
                context=context,
                entries=ENTRIES,
            )
        )
        embedding = config.embedding.model_copy(update={"dtype": filled.dtype, "calls": calls})
        config = it.job(config.model_copy(update={"embedding": embedding}))
        yield Pipeline(
            it=it,
            config=config,
            known=deck(known, texts),
            reworded=deck(reworded, [texts[question.known] for question in questions]),
            alone=Alone(direct, context, questions, exact),
            facts={"entries": f"{ENTRIES:,}, {it.index}", "the model computes in": filled.dtype},
        )
