"""Streams of labelled questions: read from a file, embedded, and each question's nearest found once for all orders."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from forebay_schemas.errors import ForebayError

from ..traces.texts import read_texts

NEAREST_KEPT = 64
"""Of each question in the whole file; who is nearest among those seen so far is looked for among these."""
_EMBEDDED_AT_ONCE = 1_024
_COMPARED_AT_ONCE = 256

Indices = npt.NDArray[np.int32]
Vectors = npt.NDArray[np.float32]
Say = Callable[[str], None]


class StreamError(ForebayError):
    """A file that is no labelled stream."""


class Half(StrEnum):
    """Which classes of a stream are played."""

    ALL = "all"
    DEV = "dev"
    """Where settings and the prior come from."""
    HELD_OUT = "held-out"
    """The others."""


class Embeds(Protocol):
    """What is asked of ``forebay_jobs.embedding.Embedder``."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, one a row."""
        ...


@dataclass(frozen=True, slots=True)
class Stream:
    """Questions in file order.

    Attributes:
        classes: of each question; those of one class have one right answer.
        near: the places of the nearest other questions, by falling similarity; a row a question.
        similarities: theirs, cosines.
    """

    name: str
    texts: list[str]
    classes: Indices
    near: Indices
    similarities: Vectors

    def __len__(self) -> int:
        return len(self.texts)


def read_questions(file: Path, half: Half = Half.ALL) -> tuple[list[str], Indices]:
    """The questions of a file, and the class of each as a number.

    Args:
        file: labelled texts, as ``traces.texts`` reads them.

    Raises:
        StreamError: a line has no question or no label, or too few are left.
    """
    try:
        with file.open("rb") as lines:
            labelled = read_texts(lines)
    except (ForebayError, OSError, EOFError) as error:
        raise StreamError(f"{file}: {error}") from None
    numbers: dict[str, int] = {}
    classes = np.array([numbers.setdefault(one.label, len(numbers)) for one in labelled], dtype=np.int32)
    played = np.flatnonzero(_played(classes, half))
    if len(played) < 2:
        raise StreamError(f"{file}: holds {len(played)} questions to play; give at least two")
    return [labelled[place].text for place in played], classes[played]


def _played(classes: Indices, half: Half) -> npt.NDArray[np.bool_]:
    """Splits classes, numbered as they appear, into halves that share none (Knuth's multiplicative hash)."""
    if half is Half.ALL:
        return np.ones(len(classes), dtype=np.bool_)
    held_out = (classes.astype(np.int64) * 2_654_435_761 >> 7) & 1
    return held_out == (half is Half.HELD_OUT)


class Preparer:
    """Embeds and compares, and keeps both in a folder: minutes for a stream that is new, nothing for the next time."""

    def __init__(self, load: Callable[[], Embeds], model: str, folder: Path, say: Say) -> None:
        """
        Args:
            load: brings the embedding model; called only where it is needed.
            model: its name; what was prepared with another is not taken.
        """
        self._load = load
        self._model = model
        self._folder = folder
        self._say = say
        self._embedder: Embeds | None = None

    def stream(self, file: Path, half: Half = Half.ALL) -> Stream:
        """A file as a stream."""
        texts, classes = read_questions(file, half)
        key = hashlib.sha256("\0".join([self._model, *texts]).encode()).hexdigest()[:24]
        kept = self._folder / f"{key}.npz"
        name = file.name.split(".")[0] + ("" if half is Half.ALL else f" ({half} classes)")
        if kept.exists():
            with np.load(kept) as arrays:
                return Stream(name, texts, classes, arrays["near"], arrays["similarities"])
        near, similarities = self._nearest(self._vectors(texts, name), name)
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}.part")
        with partial.open("wb") as out:
            np.savez(out, near=near, similarities=similarities)
        partial.replace(kept)
        return Stream(name, texts, classes, near, similarities)

    def _vectors(self, texts: Sequence[str], name: str) -> Vectors:
        if self._embedder is None:
            self._say("loading the embedding model")
            self._embedder = self._load()
        parts: list[Vectors] = []
        for start in range(0, len(texts), _EMBEDDED_AT_ONCE):
            self._say(f"{name}: {start:,} of {len(texts):,} questions embedded")
            parts.append(self._embedder.embed(texts[start : start + _EMBEDDED_AT_ONCE]))
        return np.concatenate(parts)

    def _nearest(self, vectors: Vectors, name: str) -> tuple[Indices, Vectors]:
        """Exact: every question against every other."""
        count = len(vectors)
        kept = min(NEAREST_KEPT, count - 1)
        near = np.empty((count, kept), dtype=np.int32)
        similarities = np.empty((count, kept), dtype=np.float32)
        for start in range(0, count, _COMPARED_AT_ONCE):
            self._say(f"{name}: {start:,} of {count:,} questions compared")
            rows = slice(start, min(count, start + _COMPARED_AT_ONCE))
            scores = vectors[rows] @ vectors.T
            own = np.arange(scores.shape[0])
            scores[own, start + own] = -2.0
            best = np.argpartition(scores, count - kept, axis=1)[:, count - kept :]
            found = np.take_along_axis(scores, best, axis=1)
            order = np.argsort(-found, axis=1, kind="stable")
            near[rows] = np.take_along_axis(best, order, axis=1)
            similarities[rows] = np.take_along_axis(found, order, axis=1)
        return near, similarities
