"""How much passages matter to a question: by the cosine of their vectors, or by a cross-encoder that reads both."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError
from forebay_schemas.sections import EmbeddingConfig

from .embedding import Embedder, Reading

_HEADS = ("ForSequenceClassification", "ForCausalLM")
"""How the architectures end whose weights were trained to give a score."""
_USUAL_MOST_TOKENS = 512
"""Where a model does not say how much it reads."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the passages that came with it."""

    question: str
    passages: Sequence[str]


class Scorer(Protocol):
    """Scores passages: the more one matters to its question, the higher."""

    def grasps(self, questions: Sequence[str]) -> list[bool]:
        """Whether all of each question is read. The scores of one that is read in part say little."""
        ...

    def score(self, asked: Sequence[Asked]) -> list[list[float]]:
        """A score in [-1, 1] for each passage of each question."""
        ...


class Cosine:
    """The embedder's cosine of question and passage; all texts are embedded in one call, each once."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def grasps(self, questions: Sequence[str]) -> list[bool]:
        return self._embedder.grasps(questions)

    def score(self, asked: Sequence[Asked]) -> list[list[float]]:
        # Requests of one moment often carry the same passages.
        texts = list(dict.fromkeys(text for one in asked for text in (one.question, *one.passages)))
        vectors = dict(zip(texts, self._embedder.embed(texts), strict=True))
        return [[float(vectors[passage] @ vectors[one.question]) for passage in one.passages] for one in asked]


class CrossEncoder:
    """A sentence-transformers cross-encoder in this process. It is slow: it reads each passage anew for each question.

    Raises:
        ConfigError: the model cannot be loaded, or was not trained to score pairs.
    """

    def __init__(self, model: str, settings: EmbeddingConfig) -> None:
        import torch  # seconds to import, and only this class needs them
        from sentence_transformers import CrossEncoder as Model

        started = time.monotonic()
        torch.set_num_threads(settings.threads)
        try:
            self._model = Model(model, device="cpu")
        except Exception as error:  # whatever the libraries below raise: no access, no such folder, no such format
            raise ConfigError(
                f"pruning.cross_encoder: {model!r} cannot be loaded ({error}); name a folder or Hub name of one"
            ) from error
        # A head that is missing is made up of random weights without an error.
        architectures = (self._model.config and self._model.config.architectures) or ()
        if not any(name.endswith(_HEADS) for name in architectures) or self._model.num_labels != 1:
            raise ConfigError(
                f"pruning.cross_encoder: {model!r} does not give a pair of texts one score; name a model that was"
                " trained to rank passages"
            )
        self._in_0_to_1 = torch.nn.Sigmoid()
        self._batch = settings.batch
        # Question and passage are cut together, so that a question may take half at most.
        self._reading = Reading(self._model.tokenizer, (self._model.max_seq_length or _USUAL_MOST_TOKENS) // 2)
        logger.info("loaded %s in %.1f s", model, time.monotonic() - started)

    def grasps(self, questions: Sequence[str]) -> list[bool]:
        return self._reading.grasps(questions)

    def score(self, asked: Sequence[Asked]) -> list[list[float]]:
        pairs = [(one.question, passage) for one in asked for passage in one.passages]
        # Some models leave their scores unbounded; thresholds are from 0 to 1 for all.
        flat = self._model.predict(
            pairs, batch_size=self._batch, activation_fn=self._in_0_to_1, show_progress_bar=False
        )
        left = iter(flat.tolist())
        return [[next(left) for _ in one.passages] for one in asked]


def load_cross_encoders(config: Config) -> dict[str, Scorer]:
    """The cross-encoders that categories name, by that name, each loaded once."""
    pruned = (category.pruning for category in config.categories.values())
    names = {pruning.cross_encoder for pruning in pruned if pruning and pruning.cross_encoder}
    return {name: CrossEncoder(name, config.embedding) for name in sorted(names)}
