"""Which questions of a trace are near each other: embedded once, and compared with all of an equal context."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from forebay_jobs.reuse.neighbourhood import LEAST_SIMILARITY

from .traffic import Ints, Neighbours

Vectors = npt.NDArray[np.float32]
Told = Callable[[str], None]

_AT_ONCE = 1024
"""Texts that are embedded before their vectors are written."""
_BLOCK = 1024
"""Vectors that are compared at once with all others of their context."""
_MOST_NEAR = 200
"""Of one question, those that are remembered: memory would grow with the square of a context's questions. The job looks
at five, so others matter only where nearly all of these are gone from the cache."""


class Embeds(Protocol):
    """What is asked of ``forebay_jobs.embedding.Embedder``."""

    dimensions: int

    def grasps(self, texts: Sequence[str]) -> list[bool]:
        """Whether the model reads all of each text."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, one a row."""
        ...


def embedded(texts: Sequence[str], load: Callable[[], Embeds], file: Path, told: Told) -> Vectors:
    """The vectors of texts, one a row; zeros for a text that the model does not read whole: it is near none.

    Args:
        load: loads the model.
        file: where the vectors are kept. They are written as they come, so that a run that was stopped is continued.
    """
    if not texts:
        return np.empty((0, 0), np.float32)
    if not file.exists():
        unfinished = file.with_suffix(".unfinished")
        _embed(texts, load(), unfinished, told)
        unfinished.rename(file)
    return np.fromfile(file, np.float32).reshape(len(texts), -1)


def _embed(texts: Sequence[str], embedder: Embeds, file: Path, told: Told) -> None:
    row_bytes = np.dtype(np.float32).itemsize * embedder.dimensions
    done = file.stat().st_size // row_bytes if file.exists() else 0
    with file.open("ab") as out:
        out.truncate(done * row_bytes)
        for begin in range(done, len(texts), _AT_ONCE):
            some = texts[begin : begin + _AT_ONCE]
            out.write((embedder.embed(some) * np.array(embedder.grasps(some), np.float32)[:, None]).tobytes())
            out.flush()
            told(f"{begin + len(some):,} of {len(texts):,} questions embedded")


def neighbours_of(context: Ints, text: Ints, vectors: Vectors, told: Told) -> Neighbours:
    """Of each question all others of its context above ``MIN_SIMILARITY``, below which no setting may go.

    Args:
        context, text: of each question; the text as its row in ``vectors``, below zero where it is not compared.
    """
    found = list(_near(context, text, vectors, told))
    question, near, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else _NOTHING
    order = np.lexsort((-cosine, question))
    starts = np.concatenate(([0], np.cumsum(np.bincount(question, minlength=len(context)))))
    return Neighbours(starts, near[order], cosine[order])


_NOTHING = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def _near(context: Ints, text: Ints, vectors: Vectors, told: Told) -> Iterator[tuple[Ints, Ints, Vectors]]:
    compared = np.flatnonzero(text >= 0)
    ordered = compared[np.argsort(context[compared], kind="stable")]
    ends = np.flatnonzero(np.diff(context[ordered], append=-1)) + 1
    for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        if end - begin < 2:
            continue
        here = ordered[begin:end]
        theirs = vectors[text[here]]
        for start in range(0, len(here), _BLOCK):
            cosines = theirs[start : start + _BLOCK] @ theirs.T
            if end - begin > _MOST_NEAR:
                bound = np.partition(cosines, -_MOST_NEAR - 1, axis=1)[:, -_MOST_NEAR - 1, None]  # one is itself
                row, column = np.nonzero((cosines >= LEAST_SIMILARITY) & (cosines >= bound))
            else:
                row, column = np.nonzero(cosines >= LEAST_SIMILARITY)
            other = row + start != column
            row, column = row[other], column[other]
            yield here[row + start], here[column], cosines[row, column]
            told(f"{begin + start + len(cosines):,} of {len(ordered):,} questions compared")
