"""How near the meanings of two answers are: the cosine of their embeddings, of long answers too."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .sentences import sentences

Vectors = npt.NDArray[np.float32]

_PIECE_CHARS = 600
"""Some 130 tokens of English: half of what the usual model reads, so that denser text fits too."""
MOST_PIECES = 8
"""Of an answer; a longer one would hold up everybody else for more than a tenth of a second."""


class Embeds(Protocol):
    """What is asked of ``forebay_jobs.embedding.Embedder``."""

    def grasps(self, texts: Sequence[str]) -> list[bool]:
        """Whether the model reads all of each text."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, one a row."""
        ...


def similarities(embedder: Embeds, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
    """The cosine of each pair of answers, in [-1, 1], embedded in one batch.

    A long answer is the mean of its pieces' vectors, weighted by their length, as the usual model is itself the mean
    over its tokens. None: the model does not read all of one of them, or it is too long.
    """
    answers = list(dict.fromkeys(answer for pair in pairs for answer in pair))
    pieces = [list(_pieces(answer)) for answer in answers]
    pieces = [cut if len(cut) <= MOST_PIECES else [] for cut in pieces]
    flat = [piece for cut in pieces for piece in cut]
    if not flat:
        return [None] * len(pairs)
    grasped = np.array(embedder.grasps(flat))
    vectors = embedder.embed(flat) * np.array([[len(piece)] for piece in flat], dtype=np.float32)
    found: dict[str, Vectors] = {}
    start = 0
    for answer, cut in zip(answers, pieces, strict=True):
        rows = slice(start, start + len(cut))
        start += len(cut)
        if cut and grasped[rows].all():
            whole = vectors[rows].sum(axis=0)
            found[answer] = whole / np.linalg.norm(whole)
    return [float(found[one] @ found[other]) if one in found and other in found else None for one, other in pairs]


def _pieces(text: str) -> Iterator[str]:
    """Sentences and lines, as many together as fit; a longer one is cut."""
    piece = ""
    for sentence in sentences(text):
        if piece and len(piece) + 1 + len(sentence) > _PIECE_CHARS:
            yield piece
            piece = ""
        piece = f"{piece} {sentence}".strip()
        while len(piece) > _PIECE_CHARS:
            yield piece[:_PIECE_CHARS]
            piece = piece[_PIECE_CHARS:]
    if piece:
        yield piece
