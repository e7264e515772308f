"""The semantic cache as the desk uses it: a batch of questions in, reusable answers out; failing open."""

import time
from collections.abc import Sequence

import msgspec
import numpy as np
from forebay_schemas.config import Config
from forebay_schemas.metrics import JobMetrics

from forebay_jobs.embedding import Embedder
from forebay_jobs.messages import Arrival
from forebay_jobs.reuse.policy import near_enough, tier_allowed

from .answers import Answer, AnswerStore
from .guard import StoreGuard
from .questions import Neighbour, Question, QuestionIndex, Vector

_NOTHING_EMBEDDED: tuple[list[int], Vector] = ([], np.empty((0, 0), dtype=np.float32))


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the semantic cache knows about one arrival."""

    vector: bytes | None = None
    """The question's embedding, float32; None where it was not embedded."""
    similarity: float | None = None
    """To the nearest known question of an equal context, near enough or not."""
    answer: Answer | None = None
    """Present when it may be given."""
    embedding_ms: float = 0.0
    """Time of the embedding, of the whole batch."""
    lookup_ms: float = 0.0
    """Time of the lookup, likewise."""

    @property
    def took_ms(self) -> int:
        """From the batch's beginning until its answers were there."""
        return round(self.embedding_ms + self.lookup_ms)


class SemanticCache:
    """Questions, their vectors and their answers."""

    def __init__(
        self, config: Config, embedder: Embedder, index: QuestionIndex, answers: AnswerStore, metrics: JobMetrics
    ) -> None:
        self._config = config
        self._embedder = embedder
        self._index = index
        self._answers = answers
        self._guard = StoreGuard("qdrant", config.semantic.retry_after_ms, metrics)
        self._embedder_guard = StoreGuard("embedder", config.semantic.retry_after_ms, metrics)

    def find(self, arrivals: Sequence[Arrival], now_ms: int) -> list[Found]:
        """Embed the arrivals that have a question and look for answers to them, in one batch each."""
        found = [Found()] * len(arrivals)
        started = time.perf_counter()
        questions = [arrival.question for arrival in arrivals]
        asked, vectors = self._embedder_guard.call(lambda: self._embed(questions), _NOTHING_EMBEDDED)
        if not asked:
            return found
        embedded = time.perf_counter()
        askers = [arrivals[position] for position in asked]
        neighbours = self._nearest(vectors, askers)
        answers = self._answers_of(neighbours, askers, now_ms)
        embedding_ms, lookup_ms = (embedded - started) * 1000, (time.perf_counter() - embedded) * 1000
        for position, vector, neighbour, answer in zip(asked, vectors, neighbours, answers, strict=True):
            found[position] = Found(
                vector=vector.tobytes(),
                similarity=neighbour.similarity if neighbour else None,
                answer=answer,
                embedding_ms=embedding_ms,
                lookup_ms=lookup_ms,
            )
        return found

    def learn(self, arrival: Arrival, vector: Vector, now_ms: int) -> None:
        """Make an arrival's question findable; its answer must have been kept before."""
        if arrival.context is None:
            return
        question = Question(
            digest=arrival.digest,
            context=arrival.context,
            category=arrival.asker.category,
            tenant=arrival.asker.tenant,
            created_ms=now_ms,
        )
        self._guard.call(lambda: self._index.add(question, vector), None)

    def _embed(self, questions: Sequence[str | None]) -> tuple[list[int], Vector]:
        """The positions of those questions that the model grasps, and their vectors."""
        asked = [position for position, question in enumerate(questions) if question is not None]
        grasped = self._embedder.grasps([questions[position] or "" for position in asked])
        asked = [position for position, whole in zip(asked, grasped, strict=True) if whole]
        if not asked:
            return _NOTHING_EMBEDDED
        return asked, self._embedder.embed([questions[position] or "" for position in asked])

    def _nearest(self, vectors: Vector, arrivals: Sequence[Arrival]) -> list[Neighbour | None]:
        rows = [row for row, arrival in enumerate(arrivals) if arrival.look_by_meaning and arrival.context]
        contexts = [arrivals[row].context or "" for row in rows]
        nothing: list[Neighbour | None] = [None] * len(rows)
        nearest = self._guard.call(lambda: self._index.nearest(vectors[rows], contexts), nothing) if rows else nothing
        neighbours: list[Neighbour | None] = [None] * len(arrivals)
        for row, neighbour in zip(rows, nearest, strict=True):
            neighbours[row] = neighbour
        return neighbours

    def _answers_of(
        self, neighbours: Sequence[Neighbour | None], arrivals: Sequence[Arrival], now_ms: int
    ) -> list[Answer | None]:
        near = [
            (row, neighbour)
            for row, neighbour in enumerate(neighbours)
            if neighbour and near_enough(neighbour, arrivals[row].asker.category, self._config)
        ]
        answers: list[Answer | None] = [None] * len(arrivals)
        fetched = self._answers.fetch([(neighbour.digest, arrivals[row].epochs or {}) for row, neighbour in near])
        for (row, neighbour), lookup in zip(near, fetched, strict=True):
            if lookup.gone:
                digest = neighbour.digest
                self._guard.call(lambda digest=digest: self._index.remove(digest), None)
            elif lookup.answer and self._may_give(lookup.answer, arrivals[row], now_ms):
                answers[row] = lookup.answer
        return answers

    def _may_give(self, answer: Answer, arrival: Arrival, now_ms: int) -> bool:
        ttl_s = self._config.category(arrival.asker.category).semantic_ttl_s
        if arrival.ttl_s is not None:
            ttl_s = min(ttl_s, arrival.ttl_s)
        return answer.fresh(now_ms, ttl_s) and tier_allowed(answer, arrival.asker, self._config)
