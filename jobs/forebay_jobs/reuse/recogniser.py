"""Time-sensitive questions that no rule has words for, recognised by the embedding that is there anyway."""

from functools import cached_property
from importlib.resources import files

import msgspec
import numpy as np
import numpy.typing as npt
from forebay_schemas.sections import EmbeddingConfig

from forebay_jobs.embedding import version_of


class Recogniser(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Logistic regression on a question's unit vector.

    Attributes:
        models: names of the embedding model whose vectors it reads; it knows nothing about others.
        weights: one for each dimension.
        bias: what is added to their sum.
        least: sum from which a question counts as time-sensitive.
        source: the command that made it, and the digest of the sentences that it learned from.
    """

    models: list[str]
    weights: list[float]
    bias: float
    least: float
    source: str

    def time_sensitive(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Which questions are, by their vectors, one a row."""
        return vectors @ self._weights + self.bias >= self.least

    @cached_property
    def _weights(self) -> npt.NDArray[np.float32]:
        return np.asarray(self.weights, dtype=np.float32)


def shipped_recogniser(version: str) -> Recogniser | None:
    """The one that comes with this package, made by `forebay eval eligibility --out`.

    Args:
        version: of the embedding model; None is returned where it is not one of its.
    """
    data = files("forebay_jobs.reuse").joinpath("recogniser.json").read_bytes()
    recogniser = msgspec.json.decode(data, type=Recogniser)
    known = [version_of(EmbeddingConfig(model=model)) for model in recogniser.models]
    return recogniser if version in known else None
