"""The distinct questions of a log with their vectors, and which of them are near each other; bounded in memory."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

import numpy as np
import numpy.typing as npt

MOST_QUESTIONS = 200_000
"""Distinct questions that are embedded by default: 150 MB of vectors, and some minutes of two cores."""
MOST_KEPT = 500_000
"""Questions whose answers are kept, of all contexts: a conversation makes a context of its own with every turn."""
_FIRST_ROOM = 4_096
_BLOCK = 8_192
"""Vectors that are compared at once: 13 MB as float32."""
_SHOWN_CHARS = 160

Vectors = npt.NDArray[np.float32]


class Embeds(Protocol):
    """What is asked of ``forebay_jobs.embedding.Embedder``."""

    dimensions: int

    def grasps(self, texts: Sequence[str]) -> list[bool]:
        """Whether the model reads all of each text."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, one a row."""
        ...


class Questions:
    """Distinct questions, each with a row: its vector, and what all calls that ask it have cost.

    Attributes:
        most: how many are embedded; those that come later have no row.
        beyond: calls whose question has no row for that reason.
    """

    def __init__(self, embedder: Embeds | None, most: int, keep_texts: bool) -> None:
        """Without an embedder no question has a row."""
        self._embedder = embedder
        self.most = most if embedder else 0
        self.beyond = 0
        self._rows: dict[bytes, int] = {}
        self._vectors = np.empty((0, embedder.dimensions if embedder else 0), dtype=np.float16)
        self._grasped = bytearray()
        self._texts: list[str] | None = [] if keep_texts else None
        self._costs = array("d")
        self._counts = array("q")

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, texts: Sequence[str | None]) -> list[int | None]:
        """The row of each question; those that are new are embedded, all in one call."""
        keys = [None if text is None else blake2b(text.encode(), digest_size=16).digest() for text in texts]
        room = self.most - len(self._rows)
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key and key not in self._rows}
        self._add(dict(list(fresh.items())[:room]))
        self.beyond += sum(key is not None and key not in self._rows for key in keys)
        return [self._rows.get(key) if key else None for key in keys]

    def _add(self, fresh: dict[bytes, str | None]) -> None:
        if not fresh or self._embedder is None:
            return
        texts = [text or "" for text in fresh.values()]
        vectors, grasped = self._embedder.embed(texts), self._embedder.grasps(texts)
        start, end = len(self._rows), len(self._rows) + len(texts)
        if end > len(self._vectors):
            room = min(self.most, max(_FIRST_ROOM, 2 * len(self._vectors), end))
            grown = np.empty((room, vectors.shape[1]), dtype=np.float16)
            grown[:start] = self._vectors[:start]
            self._vectors = grown
        self._vectors[start:end] = vectors
        self._grasped.extend(grasped)
        if self._texts is not None:
            self._texts.extend(" ".join(text[: 2 * _SHOWN_CHARS].split())[:_SHOWN_CHARS] for text in texts)
        self._costs.extend([0.0] * len(texts))
        self._counts.extend([0] * len(texts))
        self._rows.update(zip(fresh, range(start, end), strict=True))

    def grasped(self, row: int) -> bool:
        """Whether the model read all of the question, so that it may be compared by meaning."""
        return bool(self._grasped[row])

    def charge(self, row: int, cost: float) -> None:
        """Add a call that asks the question of a row."""
        self._costs[row] += cost
        self._counts[row] += 1

    def vectors(self, rows: Sequence[int] | npt.NDArray[np.int64] | slice) -> Vectors:
        """The vectors of rows, float32."""
        return self._vectors[: len(self._rows)][rows].astype(np.float32)

    def text(self, row: int) -> str | None:
        """The beginning of a question; None where texts are not kept."""
        return self._texts[row] if self._texts is not None else None

    @property
    def costs(self) -> npt.NDArray[np.float64]:
        """Dollars of each row."""
        return np.array(self._costs, dtype=np.float64)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Calls of each row."""
        return np.array(self._counts, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is looked up.

    Attributes:
        context: digest of all that stands around it; only questions of an equal one are compared.
        row: of its vector.
        at_s: when it is asked; NaN where that is unknown, and then nothing is too old.
        ttl_s: how old an answer may be.
    """

    context: str
    row: int
    at_s: float
    ttl_s: float


@dataclass(slots=True)
class _Shelf:
    """The questions of one context whose answers are kept, in the order in which they came."""

    rows: "array[int]" = field(default_factory=lambda: array("q"))
    times: "array[float]" = field(default_factory=lambda: array("d"))


class Nearness:
    """The questions whose answers would be in the semantic cache, compared with all others: no approximation.

    Attributes:
        left_out: questions that found no room.
    """

    def __init__(self, questions: Questions) -> None:
        self.left_out = 0
        self._questions = questions
        self._kept = 0
        self._shelves: dict[str, _Shelf] = {}

    def learn(self, asked: Asked) -> None:
        """Make a question findable, while there is room."""
        if self._kept >= MOST_KEPT:
            self.left_out += 1
            return
        self._kept += 1
        shelf = self._shelves.setdefault(asked.context, _Shelf())
        shelf.rows.append(asked.row)
        shelf.times.append(asked.at_s)

    def known(self, context: str) -> int:
        """How many questions of a context there are."""
        shelf = self._shelves.get(context)
        return len(shelf.rows) if shelf else 0

    def look(self, asked: Sequence[Asked]) -> list[float]:
        """The cosine of the nearest fresh question for each, -1 where there is none."""
        nearest = [-1.0] * len(asked)
        places: dict[str, list[int]] = {}
        for place, question in enumerate(asked):
            places.setdefault(question.context, []).append(place)
        for here in places.values():
            for place, similarity in zip(here, self._nearest([asked[place] for place in here], 0), strict=True):
                nearest[place] = similarity
        return nearest

    def look_since(self, asked: Asked, start: int) -> float:
        """The same for one question, among those that were learned after the first ``start`` of its context."""
        return self._nearest([asked], start)[0]

    def _nearest(self, asked: Sequence[Asked], start: int) -> list[float]:
        """For questions of one context."""
        best = np.full(len(asked), -1.0, dtype=np.float32)
        end = self.known(asked[0].context)
        if start >= end:
            return best.tolist()
        shelf = self._shelves[asked[0].context]
        queries = self._questions.vectors([question.row for question in asked])
        at_s = np.array([question.at_s for question in asked])[:, None]
        ttl_s = np.array([question.ttl_s for question in asked])[:, None]
        for begin in range(start, end, _BLOCK):
            block = slice(begin, min(end, begin + _BLOCK))
            scores = queries @ self._questions.vectors(np.array(shelf.rows[block], dtype=np.int64)).T
            # Either way round: a log may be sorted with its newest line first. A comparison with NaN is false.
            scores[np.abs(at_s - np.array(shelf.times[block])) > ttl_s] = -1.0
            np.maximum(best, scores.max(axis=1), out=best)
        return best.tolist()
