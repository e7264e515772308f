"""What a miss waits for its first token besides the model: through the whole pipeline, and of vLLM by itself."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from statistics import median

from forebay_client import Client
from forebay_schemas.records import CacheStatus, Latency
from forebay_schemas.sections import SemanticConfig

from . import prompts
from .bare import BareVllm, Batch
from .harness import Bench, Goal, Say, percentiles
from .process import BenchFailed
from .rig import category, rig
from .worker import settings, start_bare

BARE, PIPELINE = "bare vLLM", "pipeline"
_ASKED = 60
_MOST_ASKED = 5_000
_MAX_TOKENS = 4
_PAUSE_S = 0.05
"""Between two requests, so that none waits for what the last one leaves to be done."""
_TIMEOUT_S = 60.0
_MOST_ADDED_MS = 50.0


@contextmanager
def bench(model: str, dtype: str, server: SemanticConfig | None, say: Say) -> Iterator[Bench]:
    """The same prompts, one after the other, to vLLM and to the pipeline.

    Args:
        model: one of ``worker.MODELS``.
        dtype: what the embedding model computes in.
        server: see ``rig``.
    """
    with rig(say, also=("redis", "flink"), server=server) as it:
        # Looked up by meaning, and never answered so: no two questions are the same.
        nothing_near = {"categories": {"default": category(policy="fixed", similarity=1.0)}}
        config = it.installation(**settings(it, model) | nothing_near, embedding={"dtype": dtype})
        say("loading the model into bare vLLM (a minute or two)")
        bare = start_bare(it, config)
        it.worker(config)
        config = it.job(config)
        with Client(config=config, tenant="bench") as client:
            sides = Sides(bare, client)
            yield Bench(
                sides={BARE: sides.alone, PIPELINE: sides.through},
                goals=(Goal(side=PIPELINE, metric="first_token_p95_ms", at_most=_MOST_ADDED_MS, of="difference"),),
                facts={"requests": f"{_ASKED}, one after the other", "index": it.index, "embedding.dtype": dtype},
                processes=it.processes,
            )


class Sides:
    """Both ways of asking the same model, each time something new."""

    def __init__(self, bare: BareVllm, client: Client) -> None:
        self._bare = bare
        self._client = client
        self._texts = {side: iter(prompts.reusable(_MOST_ASKED, seed)) for seed, side in enumerate((BARE, PIPELINE))}

    def alone(self) -> dict[str, float]:
        """vLLM by itself: a generation of one token ends with its first."""
        turns = [
            [{"role": "system", "content": prompts.SYSTEM}, {"role": "user", "content": text}]
            for text in islice(self._texts[BARE], _ASKED)
        ]
        taken = self._bare.answer(Batch(turns, max_tokens=1, one_by_one=True))
        return _first_token([seconds * 1000 for seconds in taken.seconds])

    def through(self) -> dict[str, float]:
        """From asking the client until it has the first piece of the answer; and of that time what replies tell."""
        waits_ms: list[float] = []
        told: list[Latency] = []
        for request in prompts.asked(list(islice(self._texts[PIPELINE], _ASKED)), max_tokens=_MAX_TOKENS, stream=True):
            time.sleep(_PAUSE_S)
            began_s = time.monotonic()
            with self._client.stream(request, timeout_s=_TIMEOUT_S) as stream:
                next(stream, None)
                waits_ms.append((time.monotonic() - began_s) * 1000)
                for _ in stream:
                    pass
            if stream.reply.cache_status is not CacheStatus.MISS:
                raise BenchFailed("a new question was not answered by the model")
            told.append(stream.reply.latency)
        steps = {
            "embedding": [one.embedding_ms for one in told],
            "lookup": [one.lookup_ms for one in told],
            "model": [one.first_token_ms or 0.0 for one in told],
        }
        rest = [wait - sum(step) for wait, *step in zip(waits_ms, *steps.values(), strict=True)]
        parts = {f"{name}_p50_ms": median(values) for name, values in {**steps, "all_else": rest}.items()}
        return {**_first_token(waits_ms), **parts}


def _first_token(waits_ms: list[float]) -> dict[str, float]:
    return percentiles(waits_ms, "first_token_")
