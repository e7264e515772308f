"""Doubles for the job's tests: a desk's state, the answers and the embedder in memory, and a desk with a clock."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from forebay_jobs.arms import Arms
from forebay_jobs.caches.answers import Answer, AnswerStore, Fetched, Judged, Lookup, owner_of
from forebay_jobs.caches.epochs import WHOLE, Epochs, EpochStore, definitions, invalidated, scope_of, scopes_at
from forebay_jobs.caches.hits import HitStore
from forebay_jobs.caches.prefixes import PrefixRates, spread_of
from forebay_jobs.caches.questions import Neighbour, Question, Removed, Vector
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.caches.semantic import Found, SemanticCache
from forebay_jobs.desk import Desk
from forebay_jobs.dispatch import Dispatcher
from forebay_jobs.embedding import Embedder
from forebay_jobs.judging.aside import JudgeAside
from forebay_jobs.judging.judge import Judge
from forebay_jobs.messages import Arrival, Asker, Cancel, Flight, Invalidate, Outgoing, Place, Thumb, asker_name
from forebay_jobs.pruning import Pruner
from forebay_jobs.replies import ReplyWriter
from forebay_jobs.reuse import fixed
from forebay_jobs.reuse.bounded import BoundedReuse
from forebay_jobs.reuse.decision import Decision
from forebay_jobs.reuse.learned import Learned, merged
from forebay_jobs.reuse.lesson import Lesson
from forebay_jobs.reuse.namespaces import Namespaces
from forebay_jobs.reuse.neighbourhood import Candidate
from forebay_jobs.reuse.teacher import Teacher
from forebay_jobs.shadows import Shadows
from forebay_jobs.throttle import Pressure
from forebay_schemas.canonical import category_of, digests, question_of
from forebay_schemas.categories import CategoryConfig
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config, load_config
from forebay_schemas.invalidation import Invalidation, InvalidationOutcome
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import CacheStatus, Control, Event, Reply, Request, Result, Task
from forebay_schemas.topics import Headers
from prometheus_client import CollectorRegistry

from tests.builders import NOW_MS, make_reply, make_request

CODEC = Codec()
GONE = Fetched(gone=True)
EPOCHS = dict.fromkeys(("*", *definitions(load_config())), "1")
"""Those of an arrival, shortened."""


def metrics() -> JobMetrics:
    """Metrics in a registry of their own."""
    return JobMetrics(CollectorRegistry())


def configured(**sections: dict[str, Any]) -> Config:
    """The default configuration with some settings of some sections changed."""
    config = load_config()
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=values) for name, values in sections.items()}
    )


def decided_by(**category: Any) -> Config:
    """A configuration in which all requests are of one category, such as one with ``policy="fixed"``."""
    return load_config().model_copy(update={"categories": {"default": CategoryConfig(**category)}})


class MemoryState:
    """A `DeskState` in dictionaries, encoded as Flink holds it; wakes up by whole seconds, like the operator."""

    def __init__(self, bucket: str = "0.0") -> None:
        self.bucket = bucket
        self.flights: dict[str, bytes] = {}
        self.waiters: dict[tuple[str, int], bytes] = {}
        self.due: dict[int, list[str]] = {}
        self.noted: dict[str, None] = {}
        self.new: list[str] | None = None
        self.places: dict[str, bytes] = {}
        self.orphans: dict[str, bytes] = {}
        self.queue: bytes = b""
        self.invalidations: list[bytes] = []
        self.thumbs: list[bytes] = []
        self.kept: dict[str, tuple[int, bytes]] = {}
        self.looks = 0
        """How often it was asked to be looked at soon."""

    @property
    def empty(self) -> bool:
        """Whether nothing is left of what happened."""
        return not any(value for name, value in vars(self).items() if name not in ("bucket", "looks"))

    def copy(self) -> "MemoryState":
        """As a job that is set back to it finds it."""
        copied = copy.deepcopy(self)
        copied.new = None
        return copied

    def flight(self, key: str) -> Flight | None:
        data = self.flights.get(key)
        return msgspec.msgpack.decode(data, type=Flight) if data else None

    def put_flight(self, key: str, flight: Flight) -> None:
        self.flights[key] = msgspec.msgpack.encode(flight)

    def drop_flight(self, key: str) -> None:
        self.flights.pop(key, None)

    def waiter(self, key: str, number: int) -> Asker | None:
        data = self.waiters.get((key, number))
        return msgspec.msgpack.decode(data, type=Asker) if data else None

    def put_waiter(self, key: str, number: int, asker: Asker) -> None:
        self.waiters[key, number] = msgspec.msgpack.encode(asker)

    def drop_waiter(self, key: str, number: int) -> None:
        self.waiters.pop((key, number), None)

    def place(self, name: str) -> Place | None:
        data = self.places.get(name)
        return msgspec.msgpack.decode(data, type=Place) if data else None

    def put_place(self, name: str, place: Place) -> None:
        self.places[name] = msgspec.msgpack.encode(place)

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.places if name.startswith(prefix)]

    def drop_place(self, name: str) -> None:
        self.places.pop(name, None)

    def add_pending(self, key: str) -> None:
        self.noted[key] = None
        if self.new is not None:
            self.new.append(key)

    def take_new(self) -> list[str]:
        new, self.new = self.new, []
        return list(self.noted) if new is None else new

    def drop_pending(self, key: str) -> None:
        self.noted.pop(key, None)

    def look_soon(self) -> None:
        """A test ticks when it likes."""
        self.looks += 1

    def wake(self, key: str, at_ms: int) -> None:
        self.due.setdefault(at_ms // 1000 + 1, []).append(key)

    def take_due(self, now_ms: int) -> list[str]:
        seconds = sorted(second for second in self.due if second * 1000 <= now_ms)
        return [key for second in seconds for key in self.due.pop(second)]

    def orphan(self, task_id: str) -> Result | None:
        data = self.orphans.get(task_id)
        return msgspec.msgpack.decode(data, type=Result) if data else None

    def put_orphan(self, result: Result) -> None:
        self.orphans[result.task_id] = msgspec.msgpack.encode(result)

    def drop_orphan(self, task_id: str) -> None:
        self.orphans.pop(task_id, None)

    def orphan_queue(self) -> list[tuple[int, str]]:
        return msgspec.msgpack.decode(self.queue, type=list[tuple[int, str]]) if self.queue else []

    def put_orphan_queue(self, queue: list[tuple[int, str]]) -> None:
        self.queue = msgspec.msgpack.encode(queue) if queue else b""

    def add_invalidation(self, command: Invalidate) -> None:
        self.invalidations.append(msgspec.msgpack.encode(command))

    def take_invalidations(self) -> list[Invalidate]:
        taken, self.invalidations = self.invalidations, []
        return [msgspec.msgpack.decode(data, type=Invalidate) for data in taken]

    def learned(self) -> dict[str, tuple[int, bytes]]:
        return dict(self.kept)

    def put_learned(self, key: str, now_ms: int, learned: bytes) -> None:
        self.kept[key] = now_ms, learned

    def drop_learned(self, key: str) -> None:
        del self.kept[key]

    def add_thumb(self, thumb: Thumb) -> None:
        self.thumbs.append(msgspec.msgpack.encode(thumb))

    def take_thumbs(self) -> list[Thumb]:
        taken, self.thumbs = self.thumbs, []
        return [msgspec.msgpack.decode(data, type=Thumb) for data in taken]


class NoRedis(RedisStore):
    """Redis that is always away."""

    def __init__(self) -> None:
        self.prefix = "none"

    def call(self, function: Any, without: Any) -> Any:
        return without


def _executed(pipe: Any, add: Callable[[Any], None]) -> None:
    add(pipe)
    pipe.execute()


class MemoryAnswers(AnswerStore):
    """The exact cache in dictionaries; ``away`` makes it fail as Redis does when it is down."""

    def __init__(self, config: Config) -> None:
        self.away = False
        self.redis: RedisStore = NoRedis()
        """Where what is noted besides goes."""
        self.answers: dict[str, Answer] = {}
        self.judged: dict[str, list[Judged]] = {}
        self.quarantined: dict[str, bool] = {}
        self.doubted: dict[str, str] = {}
        self.reworded: Counter[str] = Counter()
        self.stored: dict[tuple[str, str], str] = {}
        self.applied: set[str] = set()
        self.seen: dict[str, str] = {}
        self.cancelled: dict[str, Cancel] = {}
        self.refreshing: set[str] = set()
        self.lost = 0
        self._scopes = EpochStore(config, "")

    def look(self, request: Request, digest: str, origin: str, *, read: bool) -> Lookup:
        if self.away:
            return Lookup()
        name = asker_name(request.tenant, request.request_id)
        if name in self.cancelled:
            return Lookup(cancelled=True)
        first = self.seen.setdefault(name, origin)
        epochs = self.current(request, digest)
        answer = self.answers.get(digest) if read else None
        return Lookup(
            answer=answer if answer and answer.holds(epochs) else None, epochs=epochs, repeated=first != origin
        )

    def fetch(self, wanted: Sequence[tuple[str, Epochs]], *, texts: bool = True) -> list[Fetched]:
        if self.away:
            return [Fetched()] * len(wanted)
        found = [(self.answers.get(digest), self._now(scopes_at(digest, epochs))) for digest, epochs in wanted]
        return [
            self._fetched(digest, answer) if answer and answer.holds(epochs) else GONE
            for (answer, epochs), (digest, _) in zip(found, wanted, strict=True)
        ]

    def _fetched(self, digest: str, answer: Answer) -> Fetched:
        judged = self.judged.get(digest, ())
        return Fetched(
            answer=answer,
            group=next((one.group for one in reversed(judged) if one.group), None),
            right=sum(one.right for one in judged),
            wrong=sum(one.wrong for one in judged),
            quarantined=digest in self.quarantined,
            doubted_by=self.doubted.get(digest),
        )

    def keep(self, digest: str, answer: Answer, ttl_s: int) -> bool | None:
        if self.away:
            return None
        if self.answers.get(digest) == answer:
            return False
        self.answers[digest] = answer
        for learned in (self.judged, self.quarantined, self.doubted, self.reworded):
            learned.pop(digest, None)
        return True

    def give(self, chosen: Sequence[tuple[str, Answer]], note: Callable[[Any], None]) -> list[Answer | None]:
        if self.away or not chosen:
            return [None] * len(chosen)
        self.redis.call(lambda client: _executed(client.pipeline(), note), None)
        return [self.answers.get(digest) for digest, _ in chosen]

    def add_notes(self, pipe: Any, judged: Sequence[Judged]) -> None:
        self.note(judged)

    def note(self, judged: Sequence[Judged]) -> None:
        for one in judged:
            if not self.away and one.digest in self.answers:
                self.judged.setdefault(one.digest, []).append(one)

    def doubt(self, digest: str, *, wrong: int, reworded: bool = False, tenant: str | None = None) -> bool | None:
        if self.away:
            return None
        self.note([Judged(digest=digest, wrong=wrong)])
        self.reworded[digest] += reworded
        alone = tenant is not None and self.doubted.setdefault(digest, tenant) == tenant
        if digest in self.answers and not alone and not (reworded and self.reworded[digest] < 2):
            self.quarantined[digest] = True
        return digest in self.quarantined

    def flush(self) -> None:
        """Lose all that is kept; what comes back has epochs that were never before."""
        self.lost += 1
        for kept in (self.answers, self.judged, self.quarantined, self.doubted, self.reworded, self.seen):
            kept.clear()
        for noted in (self.cancelled, self.refreshing, self.applied):
            noted.clear()
        self.stored = {("", WHOLE): f"lost {self.lost}"}

    def claim_refresh(self, digest: str) -> bool:
        claimed = not self.away and digest not in self.refreshing
        self.refreshing.add(digest)
        return claimed

    def note_cancelled(self, cancel: Cancel) -> None:
        if not self.away and cancel.name not in self.seen:
            self.cancelled[cancel.name] = cancel

    def forget(self, askers: Iterable[Asker]) -> None:
        for asker in askers if not self.away else ():
            self.seen.pop(asker.name, None)

    def current(self, request: Request, digest: str | None = None) -> Epochs:
        """The epochs of a request's scopes."""
        return self._now(self._scopes.scopes(request, digest or digests(request).exact))

    def invalidate(self, invalidation: Invalidation, command: str = "") -> InvalidationOutcome | None:
        if self.away:
            return None
        if command in self.applied:
            return InvalidationOutcome.REPEATED
        key = invalidation.tenant or "", scope_of(invalidation)
        self.stored[key] = invalidated(key[1], self.stored.get(key, ""), invalidation.before_ms)
        self.applied |= {command} - {""}
        return InvalidationOutcome.APPLIED

    def _now(self, scopes: Sequence[str]) -> Epochs:
        owned = ((scope, scope.rpartition("\x1f")) for scope in scopes)
        return {
            scope: self._scopes.value(scope, self.stored.get((tenant, field), ""))
            for scope, (tenant, _, field) in owned
        }


class ScriptedMeaning(SemanticCache):
    """A semantic cache that finds what a test tells it, by question, and notes what it is asked to learn."""

    def __init__(self) -> None:
        self.known: dict[str, Answer] = {}
        self.learned: list[str] = []
        self.compared: list[tuple[str, str]] = []
        self.joiners = 0
        self.open: dict[str, Lesson] = {}
        self.verdicts: list[bool | None] = []
        self.batches: list[int] = []
        self.vector: Callable[[str], Vector] = lambda _: np.ones(2, np.float32)

    def find(self, arrivals: Sequence[Arrival], now_ms: int) -> list[Found]:
        self.batches.append(len(arrivals))
        return [self._find(arrival, now_ms) for arrival in arrivals]

    def learn(self, arrival: Arrival, vector: Vector, now_ms: int) -> None:
        self.learned.append(arrival.digest)

    def joined(self, arrival: Arrival, found: Found, askers: Sequence[Asker], now_ms: int) -> None:
        self.joiners += len(askers)

    def compare(self, arrival: Arrival, decision: Decision, entry: str, text: str) -> None:
        self.compared.append((entry, text))

    def left_open(self, bucket: str) -> list[Lesson]:
        found = [lesson for lesson in self.open.values() if lesson.bucket == bucket]
        self.open.clear()
        return found

    def told(self, lesson: Lesson, right: bool | None) -> None:
        self.verdicts.append(right)

    def _find(self, arrival: Arrival, now_ms: int) -> Found:
        if arrival.question is None:
            return Found()
        answer = self.known.get(arrival.question) if arrival.look_by_meaning else None
        vector = self.vector(arrival.question).tobytes()
        similarity = 0.99 if answer else 0.5
        return Found(
            vector=vector,
            similarity=similarity,
            answer=answer,
            decision=fixed.decided_by("fixed", 0.95, [Candidate(question="?", similarity=similarity, group="")]),
            entry="known",
            embedding_ms=2,
            lookup_ms=1,
            found_ms=now_ms + 3,
        )


class LetterEmbedder(Embedder):
    """Embeds a text as the unit vector of its counts of letters; fails on demand; grasps no text with ``\u2603``."""

    def __init__(self) -> None:
        self.dimensions = 26
        self.version = "letters"
        self.batches: list[int] = []
        self.broken = False

    def grasps(self, texts: Sequence[str]) -> list[bool]:
        return ["\u2603" not in text for text in texts]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def embed(self, texts: Sequence[str]) -> Vector:
        if self.broken:
            raise RuntimeError("the model is broken")
        self.batches.append(len(texts))
        counts = np.array(
            [[text.lower().count(chr(97 + letter)) for letter in range(26)] for text in texts], np.float32
        )
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1)  # some texts have no letters


class MemoryIndex:
    """A `QuestionIndex` in a dictionary; ``broken`` makes every call fail."""

    def __init__(self) -> None:
        self.broken = False
        self.points: dict[str, tuple[str, Vector]] = {}
        self.questions: list[Question] = []

    def nearest(self, vectors: Vector, contexts: Sequence[str], limit: int) -> list[list[Neighbour]]:
        self._check()
        return [self._nearest(vector, context)[:limit] for vector, context in zip(vectors, contexts, strict=True)]

    def add(self, question: Question, vector: Vector) -> None:
        self._check()
        self.points[question.digest] = question.context, vector
        self.questions.append(question)

    def remove(self, *digests: str) -> None:
        self._check()
        for digest in digests:
            self.points.pop(digest, None)

    def forget(self, tenant: str, user: str | None) -> Removed:
        self._check()
        theirs = [one.digest for one in self.questions if one.tenant == tenant and user in (None, one.user)]
        self.remove(*theirs)
        return Removed(found=len(theirs))

    def close(self) -> None:
        pass

    def _check(self) -> None:
        if self.broken:
            raise ConnectionError("the index is away")

    def _nearest(self, vector: Vector, context: str) -> list[Neighbour]:
        found = [
            Neighbour(digest=digest, similarity=float(known @ vector))
            for digest, (where, known) in self.points.items()
            if where == context
        ]
        return sorted(found, key=lambda neighbour: -neighbour.similarity)


class SharedSums:
    """What processes share, as a store holds it that applies one change at a time; ``away`` makes it fail."""

    def __init__(self) -> None:
        self.away = False
        self.shared: bytes | None = None

    def sync(self, learned: Learned | BoundedReuse) -> None:
        """Bring a process and the others together."""
        taken = learned.take()
        try:
            shared = self._merge(*taken)
        except BaseException:
            learned.settle(None)
            raise
        learned.settle(shared)

    def _merge(self, change: bytes, whole: bytes) -> bytes:
        if self.away:
            raise ConnectionError
        self.shared = merged(self.shared, change, whole)
        return self.shared


@dataclass
class Meaning:
    """The semantic cache as a process opens it, over doubles, with the parts behind it."""

    config: Config
    index: MemoryIndex
    answers: AnswerStore
    metrics: JobMetrics = field(default_factory=metrics)
    redis: RedisStore = field(default_factory=NoRedis)
    embedder: LetterEmbedder = field(default_factory=LetterEmbedder)
    arms: Arms | None = None

    def __post_init__(self) -> None:
        if isinstance(self.answers, MemoryAnswers):
            self.answers.redis = self.redis
        self.hits = HitStore(self.config, self.redis)
        self.namespaces = Namespaces(self.config, self.redis, self.embedder.version, self.arms)
        judge = Judge(self.config, self.embedder)
        self.teacher = Teacher(judge, self.answers, self.hits, self.namespaces, self.metrics)
        self.cache = SemanticCache(
            self.config,
            self.embedder,
            self.index,
            self.answers,
            self.hits,
            self.namespaces,
            self.teacher,
            self.metrics,
        )


class MemoryRates(PrefixRates):
    """Counts of prefixes by minute in a dictionary."""

    def __init__(self, config: Config) -> None:
        self.names: dict[tuple[str, int], set[str]] = {}
        self._desk, self._partitions = config.desk, config.kafka.partitions

    def spreads(self, leaders: Sequence[Arrival]) -> list[int]:
        found = []
        for leader in leaders:
            minute = leader.asker.created_ms // 60_000
            self.names.setdefault((leader.prefix or "", minute), set()).add(leader.asker.name)
            before = len(self.names.get((leader.prefix or "", minute - 1), ()))
            found.append(spread_of(before, self._desk.hot_prefix_per_min, self._partitions) if leader.prefix else 1)
        return found


def a_dispatcher(config: Config, counted: JobMetrics, arms: Arms | None = None) -> Dispatcher:
    """A dispatcher over doubles."""
    pruner = Pruner(config, CODEC, LetterEmbedder(), {}, counted)
    return Dispatcher(config, CODEC, ReplyWriter(config, CODEC, counted), MemoryRates(config), pruner, arms)


def the_shadows(
    config: Config, counted: JobMetrics, aside: JudgeAside | None = None, arms: Arms | None = None
) -> Shadows:
    """Shadows over doubles, whose judge works when a test tells it to."""
    aside = aside or JudgeAside(Judge(config, LetterEmbedder()))
    return Shadows(config, CODEC, aside, counted, arms)


def an_asker(request: Request, **fields: Any) -> Asker:
    """Who asks a request, with a reply key of its own."""
    asker = Asker.of(
        request,
        Headers(reply_key=f"key-{request.request_id}"),
        category_of(request),
        "llm.replies",
        f"requests/0/{request.request_id}",
        NOW_MS,
    )
    return msgspec.structs.replace(asker, **fields)


def an_arrival(request: Request, /, **fields: Any) -> Arrival:
    """A request as intake hands it to the desk: cacheable, and to be looked up by meaning."""
    keys = digests(request)
    values = {
        "asker": an_asker(request),
        "request": CODEC.encode(request),
        "digest": keys.exact,
        "bucket": "0.0",
        "joinable": True,
        "question": question_of(request),
        "context": keys.context,
        "owner": owner_of(request),
        "prefix": keys.prefix,
        "look_by_meaning": True,
        "keep": True,
        "ttl_s": request.cache.ttl_s,
        "epochs": EPOCHS,
    }
    return Arrival(**values | fields)


def an_invalidation(name: str = "llm.control/0/1", /, **arguments: str) -> Invalidate:
    """A command to invalidate as it was read."""
    return Invalidate(name=name, arguments=arguments, issued_ms=NOW_MS, issued_by="ada")


def reply_to(task: Task, **fields: Any) -> Reply:
    """A worker's answer to a task; its text names who asked what first."""
    request = CODEC.decode(task.request, Request)
    values = {
        "request_id": request.request_id,
        "tenant": request.tenant,
        "text": f"for {request.tenant}: {question_of(request)}",
        "route": task.route,
    }
    return make_reply(**values | fields)


class PoolByHand(Executor):
    """Does what it is given when a test tells it to."""

    def __init__(self) -> None:
        self.given: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.given.append(lambda: future.set_result(fn(*args, **kwargs)))
        return future

    def work(self) -> None:
        """Do the one thing that was given."""
        (one,) = self.given
        self.given.clear()
        one()


class DeskRig:
    """A desk over state in memory, with a clock that a test moves, and a worker's part played by the test."""

    def __init__(self, config: Config | None = None, pool: Executor | None = None) -> None:
        self.config = config or load_config()
        self.pool = pool
        self.state = MemoryState()
        self.answers = MemoryAnswers(self.config)
        self.meaning = ScriptedMeaning()
        self.metrics = metrics()
        self.aside = JudgeAside(Judge(self.config, LetterEmbedder()))
        self.arms = Arms(self.config)
        self.now_ms = NOW_MS
        self.pressure = Pressure(lambda: self.now_ms / 1000)
        self.desk = self.a_desk()

    def a_desk(self) -> Desk:
        """One as a process that was just started has it."""
        dispatcher = a_dispatcher(self.config, self.metrics, self.arms)
        shadows = the_shadows(self.config, self.metrics, self.aside, self.arms)
        return Desk(
            self.config, CODEC, self.answers, self.meaning, dispatcher, shadows, self.metrics, self.arms, self.pool,
            self.pressure,
        )  # fmt: skip

    def arrive(self, request: Request, /, **fields: Any) -> list[Outgoing]:
        """A request arrives; what the desk writes at once."""
        return self.desk.arrive(self.state, an_arrival(request, **fields), self.now_ms)

    def ask(self, request_id: str, /, **fields: Any) -> list[Outgoing]:
        """The usual request arrives under an id."""
        return self.arrive(make_request(request_id=request_id, **fields))

    def tick(self, *, after_ms: int = 0) -> list[Outgoing]:
        """Time passes, then a timer fires."""
        self.now_ms += after_ms
        return self.desk.tick(self.state, self.now_ms)

    def settle(self, task: Task, reply: Reply | bytes | None = None, *, task_id: str | None = None) -> list[Outgoing]:
        """A worker's result for a task arrives, with the usual answer where no other is given."""
        if not isinstance(reply, bytes):
            reply = CODEC.encode(reply or reply_to(task))
        result = Result(task_id=task_id or task.task_id, flight_key=task.flight_key, bucket=task.bucket, reply=reply)
        return self.desk.settle(self.state, result, self.now_ms)

    def cancel(self, request_id: str, *, tenant: str = "acme") -> list[Outgoing]:
        """A request is taken back."""
        cancel = Cancel(tenant=tenant, request_id=request_id, issued_ms=self.now_ms)
        return self.desk.cancel(self.state, cancel, self.now_ms)

    def invalidate(self, name: str = "llm.control/0/1", /, **arguments: str) -> list[Event]:
        """A command to invalidate is read; the events that acknowledge it."""
        return events(self.desk.invalidate(self.state, an_invalidation(name, **arguments), self.now_ms))

    def lead(self, request_id: str = "leader", /, **fields: Any) -> Task:
        """A request arrives and is dispatched; its task."""
        assert self.ask(request_id, **fields) == []
        return only_task(self.tick())

    def forget_all(self) -> None:
        """Let every flight that landed and every note of a look at one come to its end."""
        for _ in range(3):
            assert self.tick(after_ms=120_000) == []


def is_task(sent: Outgoing) -> bool:
    return ".tier." in sent.topic


def task_of(sent: Outgoing) -> Task:
    assert is_task(sent)
    return CODEC.decode(sent.value, Task)


def reply_of(sent: Outgoing) -> Reply:
    assert is_reply(sent)
    return CODEC.decode(sent.value, Reply)


def events(sent: Sequence[Outgoing]) -> list[Event]:
    """The events among records."""
    return [CODEC.decode(one.value, Event) for one in sent if one.topic == "llm.events"]


def cancelled_task(sent: Sequence[Outgoing]) -> str:
    """The id of the one task that workers are told to cancel."""
    (one,) = sent
    assert one.topic == "llm.control"
    control = CODEC.decode(one.value, Control)
    assert (control.command, control.key.encode(), control.issued_by) == ("cancel_task", one.key, "job")
    return control.arguments["task_id"]


def only_task(sent: Sequence[Outgoing]) -> Task:
    (one,) = sent
    return task_of(one)


def is_reply(sent: Outgoing) -> bool:
    return sent.topic.endswith(".replies")


def replies(sent: Sequence[Outgoing]) -> dict[str, Reply]:
    """The replies among records, by request id, each of which has at most one."""
    found = [reply_of(one) for one in sent if is_reply(one)]
    by_id = {reply.request_id: reply for reply in found}
    assert len(by_id) == len(found)
    return by_id


def statuses(sent: Sequence[Outgoing]) -> dict[str, CacheStatus | str]:
    """How each request was answered: the cache status, or the code of its error."""
    return {
        request_id: reply.error.code if reply.error else reply.cache_status
        for request_id, reply in replies(sent).items()
    }
