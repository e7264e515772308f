"""What passes between the job's operators, and between them and Kafka."""

import msgspec
from forebay_schemas.records import Lane, Request, Route
from forebay_schemas.topics import Headers

from .reuse.decision import Decision
from .reuse.lesson import Lesson


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A record of a request topic, as Kafka carries it."""

    topic: str
    partition: int
    offset: int
    value: bytes
    headers: dict[str, bytes | None]

    @property
    def origin(self) -> str:
        """Where the record lies: equal when the same record is read again, different for a producer's retry."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A record to write."""

    topic: str
    key: bytes
    value: bytes
    headers: dict[str, bytes] = {}


def asker_name(tenant: str, request_id: str) -> str:
    """Names a request among those of all tenants, whatever characters its names have."""
    return f"{len(tenant)}:{tenant}:{request_id}"


def tenant_of(name: str) -> tuple[str, str]:
    """Tenant and request id in what ``asker_name`` made of them."""
    length, _, rest = name.partition(":")
    return rest[: int(length)], rest[int(length) + 1 :]


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """Who waits for a reply and where: all of a request that answering from elsewhere needs."""

    request_id: str
    tenant: str
    category: str
    lane: Lane
    created_ms: int
    accepted_ms: int
    reply_topic: str
    reply_key: str
    user: str | None = None
    endpoint: str | None = None
    prompt_version: str | None = None
    deadline_ms: int | None = None
    min_tier: str | None = None
    max_tier: str | None = None
    traceparent: str | None = None
    stream: bool = False
    priority: int = 0
    origin: str = ""
    """Where the request's record lies, as in ``Incoming``; empty where no task will come of it."""
    arm: str | None = None
    """The rollouts that it is in, as in ``Reply``."""

    @classmethod
    def of(
        cls,
        request: Request,
        headers: Headers,
        category: str,
        reply_topic: str,
        origin: str,
        now_ms: int,
        arm: str | None = None,
    ) -> "Asker":
        """The asker behind a decoded request."""
        return cls(
            request_id=request.request_id,
            tenant=request.tenant,
            category=category,
            lane=request.lane,
            created_ms=request.created_ms,
            accepted_ms=now_ms,
            reply_topic=reply_topic,
            reply_key=headers.reply_key or request.request_id,
            user=request.user,
            endpoint=request.endpoint,
            prompt_version=request.prompt_version,
            deadline_ms=request.deadline_ms,
            min_tier=request.min_tier,
            max_tier=request.max_tier,
            traceparent=headers.traceparent,
            stream=request.stream,
            priority=request.priority,
            origin=origin,
            arm=arm,
        )

    @property
    def name(self) -> str:
        """Names the request among those of all tenants."""
        return asker_name(self.tenant, self.request_id)

    def expired(self, now_ms: int) -> bool:
        """Whether nobody waits any more."""
        return self.deadline_ms is not None and self.deadline_ms <= now_ms

    def headers(self) -> dict[str, bytes]:
        """The Kafka headers of a reply to this asker."""
        return Headers(request_id=self.request_id, tenant=self.tenant, traceparent=self.traceparent).to_kafka()


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """A request that the exact cache did not answer, on its way to the desk."""

    asker: Asker
    request: bytes
    """The encoded ``Request``, as the service wrote it."""
    digest: str
    bucket: str
    joinable: bool
    """Whether it may share one generation with equal requests."""
    bypass: bool = False
    """Whether no cache was asked, by the request's wish or nature."""
    question: str | None = None
    """What is embedded: to be routed by, and where the flags below say so, to be compared by meaning and indexed."""
    context: str | None = None
    owner: str = ""
    """Whose answers it may share, as the scope of their epoch: a tenant, or all that share."""
    prefix: str | None = None
    """Digest of the static turns, which requests that meet at one worker share."""
    look_by_meaning: bool = False
    """Whether a similar question's answer will do; a refresh is only indexed."""
    keep: bool = False
    """Whether the answer may be kept for others."""
    rules: str = ""
    """The ``eligibility.RULES`` that let it be reused for what it asks; empty where it is not, or by its wish alone."""
    as_json: bool = False
    """Whether it asks for a format of the answer."""
    ttl_s: int | None = None
    """The request's own limit on how long its answer may be reused."""
    epochs: dict[str, str] | None = None
    """The epochs of the request's scopes when it was looked up; None where Redis did not say."""
    lookup_ms: float = 0.0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request waits at the desk."""

    flight: str
    number: int | None = None
    """Its number among those who joined; None: it leads."""


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is taken back, or all rows of a batch."""

    tenant: str
    request_id: str
    """Or the batch's."""
    issued_ms: int

    @property
    def name(self) -> str:
        """Of the request, as ``Asker.name``; a batch is named like one."""
        return asker_name(self.tenant, self.request_id)


class Invalidate(msgspec.Struct, frozen=True, kw_only=True):
    """A command to invalidate, as it was read; whether it says clearly what is still to be checked."""

    name: str
    """Equal when the same record is read again, and different for the same command given anew."""
    arguments: dict[str, str]
    issued_ms: int
    issued_by: str

    @property
    def filters(self) -> dict[str, str]:
        """What it says of the answers that it means."""
        return {name: value for name, value in self.arguments.items() if name != "id"}


class Forget(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant of whom nothing is to be kept, or one of its users."""

    id: str
    tenant: str
    user: str | None = None


class Thumb(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody thought of the answer to a request."""

    tenant: str
    request_id: str
    up: bool
    source: str
    """As in ``Feedback``."""

    @property
    def name(self) -> str:
        """Of the request, as ``Asker.name``."""
        return asker_name(self.tenant, self.request_id)


def counts_for(issued_ms: int, created_ms: int, seen_ttl_s: int) -> bool:
    """Whether a cancellation concerns a request of a time.

    An id is good for one request within ``seen_ttl_s``, and a night later for another one that an old command, read
    once more, must not meet. The window also lets the clocks of two machines disagree.
    """
    return created_ms < issued_ms + seen_ttl_s * 1000


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """A second answer that is wanted of a request that was answered, for nobody to see."""

    reason: str
    """As in ``Audit``."""
    tier: str | None = None
    """Who is to give it, and nobody in its place; None: who would be chosen for the request."""
    arm: str | None = None
    """The rollout whose arm is to give it."""
    weight: int = 1
    """As in ``Audit``."""


class Shadowed(msgspec.Struct, frozen=True, kw_only=True):
    """What the second answer is compared with."""

    shadow: Shadow
    reply: bytes
    """The encoded ``Reply`` that was served."""
    question: str | None = None
    """As in ``Audit``."""
    other: bytes | None = None
    """The encoded ``Reply`` of the second one, once it landed."""
    asked: bool = False
    """Whether the large tier was asked what the judge left open."""

    @property
    def arm(self) -> str | None:
        """The arm of what is asked now: a verdict is given by the configuration alone."""
        return None if self.asked else self.shadow.arm


class Flight(msgspec.Struct, frozen=True, kw_only=True):
    """One generation, from the arrival of its leader until a few seconds after its result."""

    leader: Arrival
    lane: Lane = Lane.INTERACTIVE
    """The lane of its tasks, that of the first leader."""
    task_id: str | None = None
    """The task that is out; None while the leader waits for the semantic lookup."""
    known: bool = True
    """Whether its arm was known when that task was made."""
    route: Route | None = None
    spread: int = 1
    """Over how many keys the tasks of its prefix are spread."""
    waiters: int = 0
    """Numbers given to those who joined; some may have left."""
    vector: bytes | None = None
    """The question's embedding, float32."""
    decision: Decision | None = None
    """Why no known answer was given; None where none was looked for."""
    entry: str | None = None
    """Digest of the entry that was decided on."""
    lesson: Lesson | None = None
    """Present where the job itself asks, whether two answers agree."""
    shadowed: Shadowed | None = None
    """Present where the job itself asks for a second answer."""
    expires_ms: int = 0
    """When the flight is given up or, once landed, forgotten."""
    looked_at_ms: int = 0
    """When the desk looks at this flight next; in the past where no look is noted."""
    answer: bytes | None = None
    """The encoded ``Reply`` of the leader once it landed; empty where it may not be given again."""
