"""The semantic cache as the desk uses it: a batch of questions in, reusable answers out; failing open."""

import time
from collections.abc import Sequence

import msgspec
import numpy as np
from forebay_schemas.config import Config
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.prices import cost
from forebay_schemas.records import Lane
from redis.client import Pipeline

from forebay_jobs.embedding import Embedder
from forebay_jobs.messages import Arrival, Asker
from forebay_jobs.reuse.decision import Decision
from forebay_jobs.reuse.lesson import Lesson
from forebay_jobs.reuse.lifetime import shorter_s
from forebay_jobs.reuse.namespaces import Namespaces
from forebay_jobs.reuse.neighbourhood import NEAREST, Candidate
from forebay_jobs.reuse.recogniser import shipped_recogniser
from forebay_jobs.reuse.teacher import Complained, Outcome, Teacher
from forebay_jobs.reuse.tier_bounds import tier_allowed

from .answers import Answer, AnswerStore, Fetched, Judged
from .guard import StoreGuard
from .hits import Hit, HitStore
from .questions import Neighbour, Question, QuestionIndex, Removed, Vector

_NOTHING_EMBEDDED: tuple[list[int], Vector] = ([], np.empty((0, 0), dtype=np.float32))


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the semantic cache knows about one arrival."""

    vector: bytes | None = None
    """The question's embedding, float32; None where it was not embedded."""
    similarity: float | None = None
    """To the question whose answer is given; else to the nearest other one of an equal context, near enough or not."""
    answer: Answer | None = None
    """Present when it is given."""
    decision: Decision | None = None
    """Why it is given, or not; None where none was looked for."""
    entry: str | None = None
    """Digest of the entry that was decided on, present where one was near."""
    quarantined: Hit | None = None
    """The hit whose entry is in quarantine from now on, as this is the same question in other words."""
    time_sensitive: bool = False
    """Whether its meaning, where its words did not, says that the answer is neither to be reused nor kept."""
    keep: bool = True
    """Whether the answer may be kept, as far as the meaning says; not where nothing could tell that it may."""
    embedding_ms: float = 0.0
    """Time of the embedding, of the whole batch."""
    lookup_ms: float = 0.0
    """Time of the lookup, likewise."""
    found_ms: int = 0
    """When all of this was known, in milliseconds since the Unix epoch; 0 where nothing was looked for."""


class _Known(msgspec.Struct, frozen=True):
    """A known question near one that is asked, whose answer may be given."""

    neighbour: Neighbour
    entry: Fetched
    answer: Answer

    @property
    def candidate(self) -> Candidate:
        return Candidate(
            question=self.answer.question or "",
            similarity=self.neighbour.similarity,
            group=self.entry.group or self.neighbour.digest,
            right=self.entry.right,
            wrong=self.entry.wrong,
        )


class _Given(msgspec.Struct, frozen=True):
    """An answer that is given by meaning."""

    arrival: Arrival
    answer: Answer
    entry: str
    decision: Decision
    vector: bytes


class SemanticCache:
    """Questions, their vectors, their answers, and the policies that decide whether one is given."""

    def __init__(
        self,
        config: Config,
        embedder: Embedder,
        index: QuestionIndex,
        answers: AnswerStore,
        hits: HitStore,
        namespaces: Namespaces,
        teacher: Teacher,
        metrics: JobMetrics,
    ) -> None:
        self._config = config
        self._embedder = embedder
        self._index = index
        self._answers = answers
        self._hits = hits
        self._namespaces = namespaces
        self._teacher = teacher
        self._metrics = metrics
        metrics.reuse_delta.clear()  # a process outlives configurations
        for name in {*config.categories, "default"}:
            if (category := config.category(name)).policy == "bounded":
                metrics.reuse_delta.labels(name).set(category.delta)
        self._recogniser = shipped_recogniser(embedder.version)
        self._guard = StoreGuard("qdrant", config.semantic.retry_after_ms, metrics)
        self._embedder_guard = StoreGuard("embedder", config.semantic.retry_after_ms, metrics)

    def find(self, arrivals: Sequence[Arrival], now_ms: int) -> list[Found]:
        """Embed the arrivals that have a question, look for answers to them, in one batch each, and decide.

        Where an answer is not to be kept, the vector alone is told, for the router. Has to be called once for each
        arrival: the policies count requests.
        """
        found = [Found()] * len(arrivals)
        started = time.perf_counter()
        questions = [arrival.question for arrival in arrivals]
        embeddings = self._embedder_guard.call(lambda: self._embed(questions), None)
        if embeddings is None:  # what only its meaning shows to be time-sensitive is not known by now
            return [Found(keep=self._recogniser is None or question is None) for question in questions]
        asked, vectors = embeddings
        if not asked:
            return found
        embedded = time.perf_counter()
        embedding_ms = (embedded - started) * 1000
        if self._recogniser is not None:
            timely = self._recogniser.time_sensitive(vectors)
            for position in np.array(asked)[timely]:
                found[position] = Found(time_sensitive=True, keep=False, embedding_ms=embedding_ms)
            asked, vectors = np.array(asked)[~timely].tolist(), vectors[~timely]
        if not asked:
            return found
        kept = [row for row, position in enumerate(asked) if arrivals[position].keep]
        known = self._look_up([arrivals[asked[row]] for row in kept], vectors[kept], now_ms) if kept else []
        looked_up = dict(zip(kept, known, strict=True))
        lookup_ms = (time.perf_counter() - embedded) * 1000
        for row, position in enumerate(asked):
            one = looked_up.get(row) or Found(vector=vectors[row].tobytes())
            found[position] = msgspec.structs.replace(
                one,
                embedding_ms=embedding_ms,
                lookup_ms=lookup_ms,
                found_ms=now_ms + round(embedding_ms + lookup_ms),
            )
        return found

    def _look_up(self, arrivals: Sequence[Arrival], vectors: Vector, now_ms: int) -> list[Found]:
        """What is known about arrivals by their questions' vectors, and what is given of it."""
        self._namespaces.meet((arrival.owner, arrival.asker.category) for arrival in arrivals)
        neighbours = self._nearest(vectors, arrivals)
        rejected, quarantined = self._rejected(vectors, arrivals)
        known = self._known(neighbours, arrivals, rejected, now_ms)
        decisions = [self._decide(arrival, near) for arrival, near in zip(arrivals, known, strict=True)]
        given = {
            row: _Given(arrivals[row], known[row][0].answer, known[row][0].neighbour.digest, decision, vector.tobytes())
            for row, (vector, decision) in enumerate(zip(vectors, decisions, strict=True))
            if decision is not None and decision.reused
        }
        answers = dict(zip(given, self._give(list(given.values()), now_ms), strict=True))
        return [
            Found(
                vector=vector.tobytes(),
                similarity=_similarity(decision, all_near, arrival),
                answer=answers.get(row),
                decision=decision,
                entry=near[0].neighbour.digest if near else None,
                quarantined=hit,
            )
            for row, (arrival, vector, near, all_near, decision, hit) in enumerate(
                zip(arrivals, vectors, known, neighbours, decisions, quarantined, strict=True)
            )
        ]

    def joined(self, arrival: Arrival, found: Found, askers: Sequence[Asker], now_ms: int) -> None:
        """These, whose requests are equal to an arrival's, are given the answer that was found for it too."""
        if not askers or found.decision is None or found.answer is None or found.entry is None:
            return
        with self._namespaces.lock:
            self._namespaces.policy(arrival.owner, arrival.asker.category).joined(found.decision, len(askers))
        self._charge(arrival, found.decision, len(askers))
        given = _Given(arrival, found.answer, found.entry, found.decision, found.vector or b"")
        judged, hits = self._notes([(asker, given) for asker in askers], now_ms)
        self._answers.note(judged)
        self._hits.note(hits)

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
            user=arrival.asker.user,
        )
        self._guard.call(lambda: self._index.add(question, vector), None)

    def forget(self, tenant: str, user: str | None) -> Removed:
        """Remove the questions of a tenant, or of one of its users. Raises what the index raises."""
        return self._index.forget(tenant, user)

    def compare(self, arrival: Arrival, decision: Decision, entry: str, text: str) -> None:
        """Let the answer that was generated, in spite of a neighbour or to check one, teach what the neighbour's was
        worth. That happens later, on a thread of its own."""
        self._teacher.put(
            Lesson(
                owner=arrival.owner,
                tenant=arrival.asker.tenant,
                category=arrival.asker.category,
                decision=decision,
                entry=entry,
                epochs=arrival.epochs or {},
                digest=arrival.digest,
                question=arrival.question or "",
                text=text,
                as_json=arrival.as_json,
                bucket=arrival.bucket,
            )
        )

    def left_open(self, bucket: str) -> list[Lesson]:
        """See ``Teacher.left_open``."""
        return self._teacher.left_open(bucket)

    def told(self, lesson: Lesson, right: bool | None) -> None:
        """See ``Teacher.told``."""
        self._teacher.told(lesson, right)

    def complained(self, name: str, voice: str) -> Complained | None:
        """See ``Teacher.complained``."""
        return self._teacher.complained(name, voice)

    def praised(self, name: str) -> Complained | None:
        """See ``Teacher.praised``."""
        return self._teacher.praised(name)

    def _embed(self, questions: Sequence[str | None]) -> tuple[list[int], Vector]:
        """The positions of those questions that the model grasps, and their vectors."""
        asked = [position for position, question in enumerate(questions) if question is not None]
        grasped = self._embedder.grasps([questions[position] or "" for position in asked])
        asked = [position for position, whole in zip(asked, grasped, strict=True) if whole]
        if not asked:
            return _NOTHING_EMBEDDED
        return asked, self._embedder.embed([questions[position] or "" for position in asked])

    def _nearest(self, vectors: Vector, arrivals: Sequence[Arrival]) -> list[list[Neighbour]]:
        rows = [row for row, arrival in enumerate(arrivals) if arrival.look_by_meaning and arrival.context]
        contexts = [arrivals[row].context or "" for row in rows]
        neighbours: list[list[Neighbour]] = [[]] * len(arrivals)
        if rows:
            nothing: list[list[Neighbour]] = [[]] * len(rows)
            nearest = self._guard.call(lambda: self._index.nearest(vectors[rows], contexts, NEAREST), nothing)
            for row, near in zip(rows, nearest, strict=True):
                neighbours[row] = near
        return neighbours

    def _rejected(self, vectors: Vector, arrivals: Sequence[Arrival]) -> tuple[list[str | None], list[Hit | None]]:
        """The entry whose answer each asker was just given, where this is the same question in other words; and the
        hit, where that puts the entry into quarantine."""
        rejected: list[str | None] = []
        quarantined: list[Hit | None] = []
        last = self._hits.last_of([arrival.asker for arrival in arrivals])
        for vector, arrival, hit in zip(vectors, arrivals, last, strict=True):
            found = self._teacher.reworded(hit, arrival, vector) if hit is not None else None
            rejected.append(hit.digest if hit is not None and found is not None else None)
            quarantined.append(found.hit if found is not None and found.outcome is Outcome.QUARANTINED else None)
        return rejected, quarantined

    def _known(
        self,
        neighbours: Sequence[Sequence[Neighbour]],
        arrivals: Sequence[Arrival],
        rejected: Sequence[str | None],
        now_ms: int,
    ) -> list[list[_Known]]:
        near = [
            (row, neighbour)
            for row, (all_near, arrival) in enumerate(zip(neighbours, arrivals, strict=True))
            for neighbour in self._near_enough(all_near, arrival)
        ]
        known: list[list[_Known]] = [[] for _ in arrivals]
        fetched = self._answers.fetch(
            [(neighbour.digest, arrivals[row].epochs or {}) for row, neighbour in near], texts=False
        )
        gone = {neighbour.digest for (_, neighbour), entry in zip(near, fetched, strict=True) if entry.gone}
        if gone:
            self._guard.call(lambda: self._index.remove(*gone), None)
        for (row, neighbour), entry in zip(near, fetched, strict=True):
            if (
                entry.answer is not None
                and not entry.quarantined
                and entry.doubted_by != arrivals[row].asker.tenant
                # Its own entry is what the exact cache did not give, or what is to be replaced.
                and neighbour.digest not in (rejected[row], arrivals[row].digest)
                and self._may_give(entry.answer, arrivals[row], now_ms)
            ):
                known[row].append(_Known(neighbour, entry, entry.answer))
        return known

    def _near_enough(self, neighbours: Sequence[Neighbour], arrival: Arrival) -> Sequence[Neighbour]:
        """Those that its policy wants to know of."""
        if not neighbours:
            return ()
        with self._namespaces.lock:
            least = self._namespaces.policy(arrival.owner, arrival.asker.category).least
        return [neighbour for neighbour in neighbours if neighbour.similarity >= least]

    def _may_give(self, answer: Answer, arrival: Arrival, now_ms: int) -> bool:
        ttl_s = shorter_s(self._config.category(arrival.asker.category).semantic_ttl_s, arrival.ttl_s)
        return (
            answer.question is not None
            and answer.fresh(now_ms, ttl_s)
            and tier_allowed(answer, arrival.asker, self._config)
        )

    def _decide(self, arrival: Arrival, known: Sequence[_Known]) -> Decision | None:
        if not arrival.look_by_meaning:
            return None
        with self._namespaces.lock:
            policy = self._namespaces.policy(arrival.owner, arrival.asker.category)
            decision = policy.decide(arrival.asker.name, arrival.question or "", [one.candidate for one in known])
        pool = self._namespaces.pool(arrival.asker.category)
        self._metrics.reuse_decisions.labels(pool, decision.policy, decision.verdict).inc()
        if decision.reused:
            self._charge(arrival, decision, 1)
        return decision

    def _charge(self, arrival: Arrival, decision: Decision, requests: int) -> None:
        pool = self._namespaces.pool(arrival.asker.category)
        self._metrics.reuse_charged.labels(pool, decision.policy).inc(decision.charge * requests)

    def _give(self, given: Sequence[_Given], now_ms: int) -> list[Answer | None]:
        """The answers, noted as given; see ``AnswerStore.give``."""
        judged, hits = self._notes([(one.arrival.asker, one) for one in given], now_ms)

        def note(pipe: Pipeline) -> None:
            self._answers.add_notes(pipe, judged)
            self._hits.add_notes(pipe, hits)

        return self._answers.give([(one.entry, one.answer) for one in given], note)

    def _notes(self, given: Sequence[tuple[Asker, _Given]], now_ms: int) -> tuple[list[Judged], list[Hit]]:
        """What entries, and users, are to remember of answers that are given."""
        judged: list[Judged] = []
        hits: list[Hit] = []
        for asker, one in given:
            saved_usd = cost(one.answer.usage, self._config.price(one.answer.tier), asker.lane)
            judged.append(Judged(digest=one.entry, hits=1, saved_usd=saved_usd))
            hits.append(
                Hit(
                    name=asker.name,
                    owner=one.arrival.owner,
                    category=asker.category,
                    digest=one.entry,
                    question=one.arrival.question or "",
                    matched_question=one.answer.question or "",
                    decision=one.decision,
                    given_ms=now_ms,
                    context=one.arrival.context,
                    user=asker.user,
                    vector=one.vector if asker.user and asker.lane is Lane.INTERACTIVE else b"",
                )
            )
        return judged, hits


def _similarity(decision: Decision | None, neighbours: Sequence[Neighbour], arrival: Arrival) -> float | None:
    if decision and decision.reused:
        return decision.similarity
    return next((one.similarity for one in neighbours if one.digest != arrival.digest), None)
