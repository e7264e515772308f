"""The records that cross a topic, as immutable typed structs.

Each struct here has one Avro schema of the same name in ``schemas/avro/`` (see ``codec``); field names, order
and meaning are equal. Times ending in ``_ms`` without ``latency`` are milliseconds since the Unix epoch,
durations are milliseconds too, costs are US dollars.
"""

import json
from enum import StrEnum
from typing import Annotated

import msgspec

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
"""Avro's ``int``; a plain ``int`` here is Avro's ``long``. The encoder itself would write any size into either."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all records: immutable, built with keywords, compared by value."""


class Lane(StrEnum):
    """Who is waiting: a person (``interactive``) or a job that runs until morning (``batch``)."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class CachePolicy(StrEnum):
    """What a request allows the caches to do."""

    USE = "use"
    """Answer from a cache where possible, and keep the answer for others."""
    REFRESH = "refresh"
    """Generate anew, and replace what the caches hold."""
    BYPASS = "bypass"
    """Neither read nor fill a cache, and do not join an equal request in flight."""


class CacheScope(StrEnum):
    """Who may share an answer with this request."""

    TENANT = "tenant"
    USER = "user"
    SHARED = "shared"
    """Every tenant whose request also says ``shared``."""


class CacheStatus(StrEnum):
    """Where a reply's text came from."""

    EXACT = "exact"
    """An equal request was answered before."""
    SEMANTIC = "semantic"
    """A request of the same meaning in an equal context was answered before."""
    JOINED = "joined"
    """An equal request was in flight: one generation answered both."""
    MISS = "miss"
    """Generated for this request, after the caches had nothing."""
    BYPASS = "bypass"
    """Generated (or refused) without asking a cache."""


REUSED = (CacheStatus.EXACT, CacheStatus.SEMANTIC, CacheStatus.JOINED)
"""Of the answers that were not generated for their request alone."""


class Verdict(StrEnum):
    """What was thought of an answer."""

    UP = "up"
    DOWN = "down"


class FeedbackSource(StrEnum):
    """Who thought it."""

    USER = "user"
    """A person who read the answer."""
    JUDGE = "judge"
    """A model that was asked whether the answer is right."""
    RULE = "rule"
    """A program that saw what the user did next: the answer was copied, or the same was asked again."""


class Message(Record, frozen=True, kw_only=True):
    """One turn of a conversation, in OpenAI's vocabulary."""

    role: str
    """One of ``validation.ROLES``."""
    content: str | None = None
    name: str | None = None
    tool_calls: str | None = None
    """JSON text of the list an assistant turn carries."""
    tool_call_id: str | None = None


class CacheOptions(Record, frozen=True, kw_only=True):
    """What a request asks of the caches."""

    policy: CachePolicy = CachePolicy.USE
    scope: CacheScope = CacheScope.TENANT
    ttl_s: Int32 | None = None
    """How long the answer may be reused; absent: the category's setting. Given, it holds for a time-sensitive
    question too, and with the scope ``user`` for a user-specific one; else those are never reused."""
    sources: list[str] = []
    """Data sources the answer depends on; invalidating one invalidates the answer."""


class Request(Record, frozen=True, kw_only=True):
    """What a service asks. Absent parameters mean the tier's defaults."""

    request_id: str
    """Unique within the tenant; publishing the same id again (a retry) is answered once."""
    tenant: str
    created_ms: int
    messages: list[Message]
    """The turns that differ from request to request; the last user turn is what is compared by meaning."""
    static_messages: list[Message] = []
    """The turns that stay the same (system prompt, few-shot examples); they come before ``messages``."""
    user: str | None = None
    endpoint: str | None = None
    """The service's own name for the call site, for attribution."""
    category: str | None = None
    """Names the settings for reuse and routing; absent: the endpoint, else ``default``."""
    lane: Lane = Lane.INTERACTIVE
    deadline_ms: int | None = None
    max_tokens: Int32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: list[str] = []
    seed: int | None = None
    tools: str | None = None
    """JSON text of OpenAI's list of tools, shown to the model; what it calls comes back as ``Reply.tool_calls``."""
    response_format: str | None = None
    """JSON text of OpenAI's object: ``{"type": "json_object"}`` or ``{"type": "json_schema", ...}``."""
    cache: CacheOptions = CacheOptions()
    min_tier: str | None = None
    max_tier: str | None = None
    prompt_version: str | None = None
    metadata: dict[str, str] = {}
    stream: bool = False
    """Whether the answer is wanted piece by piece too, as ``Chunk`` records."""
    priority: Int32 = 0
    """Among the tasks of one lane, higher comes first."""
    passages: list[str] = []
    """Context to answer from; those that matter to the question may be chosen, where the category says so."""
    tool_choice: str | None = None
    """``required``: one of ``tools`` must be called; absent: the model chooses."""


class Route(Record, frozen=True, kw_only=True):
    """Why a request went to its tier."""

    tier: str
    complexity: float
    """In [0, 1]."""
    confidence: float
    """In [0, 1]."""
    reason: str
    """One of ``complexity``, ``low_confidence``, ``task``, ``category``, ``min_tier``, ``max_tier``, ``shadow``."""
    features: dict[str, float] = {}
    """What was read of the request, each in [0, 1]; and ``chance.<tier>``, that each tier answers well, where that was
    learned."""


class Usage(Record, frozen=True, kw_only=True):
    """Tokens, as OpenAI counts them: cached prompt tokens are part of the prompt tokens."""

    prompt_tokens: Int32 = 0
    completion_tokens: Int32 = 0
    cached_prompt_tokens: Int32 = 0
    cache_write_prompt_tokens: Int32 = 0
    """Prompt tokens written to a prefix cache, where a provider counts them."""


class Hop(Record, frozen=True, kw_only=True):
    """A generation whose answer did not go out: the next tier was asked instead."""

    tier: str
    model_id: str
    reason: str
    """Why it went on: ``confidence``, ``refusal``, ``cut_off``, ``invalid_json`` or ``unavailable``."""
    confidence: float | None = None
    """Of the answer, as in ``Reply``."""
    usage: Usage = Usage()
    cost: float = 0.0


class ReplyError(Record, frozen=True, kw_only=True):
    """Why there is no answer."""

    code: str
    """One of ``errors.ErrorCode``."""
    message: str
    retryable: bool


class Latency(Record, frozen=True, kw_only=True):
    """Where the time went. The first four add up to ``total_ms``, which counts from the request's creation; those of
    them that did not happen are zero."""

    queue_ms: float = 0.0
    """What is none of the other three."""
    embedding_ms: float = 0.0
    lookup_ms: float = 0.0
    generation_ms: float = 0.0
    total_ms: float = 0.0
    first_token_ms: float | None = None
    """From the beginning of the last generation to its first token; absent where the backend does not tell it."""


class Reply(Record, frozen=True, kw_only=True):
    """What a service gets, exactly one for each request: an answer or an error, and where it came from."""

    request_id: str
    tenant: str
    completed_ms: int
    cache_status: CacheStatus
    text: str = ""
    finish_reason: str | None = None
    """``stop``, ``length`` or ``tool_calls``; absent on errors."""
    error: ReplyError | None = None
    usage: Usage = Usage()
    user: str | None = None
    endpoint: str | None = None
    category: str = "default"
    lane: Lane = Lane.INTERACTIVE
    similarity: float | None = None
    """Cosine of the nearest known question with an equal context, where one was looked for; in [-1, 1]."""
    matched_request_id: str | None = None
    """The request whose answer this is, on exact, semantic and joined replies."""
    route: Route | None = None
    """Absent where no tier was chosen: on errors of the request itself."""
    model_id: str | None = None
    synthetic: bool = False
    """True where no model wrote the text: a load test's backend did."""
    prompt_version: str | None = None
    hops: Int32 = 0
    """Generations that led to this reply, those cut short included where their tokens are known; zero when reused."""
    latency: Latency = Latency()
    cost: float = 0.0
    """Of all hops."""
    baseline_cost: float = 0.0
    """What the largest tier would have cost for the same tokens."""
    tier: str | None = None
    """The tier that answered, which after an escalation is not the one of the route."""
    confidence: float | None = None
    """Geometric mean of the probabilities of the answer's tokens, in (0, 1]; absent where the model tells none."""
    review: bool = False
    """True where the answer is doubtful and no further tier could be asked: a person should look at it."""
    path: list[Hop] = []
    """The generations before the one that answered."""
    arm: str | None = None
    """The rollouts by whose settings it was answered, as ``name@started_ms`` with ``+`` between; absent: by the
    configuration alone."""
    tool_calls: str | None = None
    """JSON text of OpenAI's list of the tools that the model calls, where its backend tells calls from text."""

    @property
    def complete(self) -> bool:
        """Whether the answer is there and came to its end."""
        return self.finish_reason in ("stop", "tool_calls") and bool(self.text.strip() or self.tool_calls)

    @property
    def said(self) -> str:
        """What two answers are compared by: the text, or what is called, without ids, as JSON text."""
        if self.tool_calls is None:
            return self.text
        return json.dumps([call["function"] for call in json.loads(self.tool_calls)], ensure_ascii=False)


class Task(Record, frozen=True, kw_only=True):
    """One generation that the job asks of a tier's workers."""

    task_id: str
    """Equal for the same dispatch of the same request, also when a restored job writes it twice."""
    flight_key: str
    bucket: str
    """The key of the desk's state; results find their way back by it."""
    request: bytes
    """The encoded ``Request``, as the service wrote it."""
    route: Route
    cache_status: CacheStatus
    accepted_ms: int
    """When the job first saw the request."""
    reply_topic: str
    reply_key: str
    traceparent: str | None = None
    similarity: float | None = None
    embedding_ms: float = 0.0
    lookup_ms: float = 0.0
    hop: Int32 = 0
    """How often it was handed to another tier."""
    path: list[Hop] = []
    """The generations so far."""
    arm: str | None = None
    """The rollouts whose settings it is answered by, as in ``Reply``."""
    overrides: dict[str, str] = {}
    """What they change, by path, as JSON text; see ``overrides``."""

    @property
    def name(self) -> str:
        """One record to be worked on once: a repeat of it, written by a restored job, has the same name."""
        return f"{self.task_id}/{self.hop}"


class Result(Record, frozen=True, kw_only=True):
    """What a worker tells the job about a task: the reply it gave, written in the same transaction."""

    task_id: str
    flight_key: str
    bucket: str
    reply: bytes
    """The encoded ``Reply``."""


class DeadLetter(Record, frozen=True, kw_only=True):
    """A record that cannot be answered, kept for an operator."""

    code: str
    """One of ``errors.ErrorCode``."""
    reason: str
    place: str
    """The part that gave up: ``job`` or ``worker``."""
    topic: str
    partition: Int32
    offset: int
    failed_ms: int
    value: bytes
    """The original bytes, cut where huge."""
    value_length: int
    value_digest: str
    """SHA-256 of the whole value, in hex."""
    request_id: str | None = None
    tenant: str | None = None
    attempts: Int32 = 0
    """Generations that were begun, where there were any."""
    history: list[str] = []
    """How they ended, oldest first."""


class Chunk(Record, frozen=True, kw_only=True):
    """A piece of an answer that is still being generated, or the whole of one that is reused."""

    request_id: str
    tenant: str
    attempt: Int32
    """Grows when a generation begins anew: what came before it no longer counts."""
    index: Int32
    """Zero-based place within the attempt."""
    text: str
    last: bool = False
    """No further piece comes; the reply tells the rest."""


class Feedback(Record, frozen=True, kw_only=True):
    """What somebody thought of the answer to a request.

    It names the request alone: where the answer came from is known by tenant and request id from its reply. A user (or
    a source without one) has one voice on a request, so of repeated feedback the latest counts.
    """

    request_id: str
    tenant: str
    given_ms: int
    verdict: Verdict
    source: FeedbackSource = FeedbackSource.USER
    user: str | None = None
    """Whose voice it is, in the names that requests have for users."""
    reason: str | None = None
    """A short code of the service's own, such as ``outdated``; no place for texts."""
    refined_by: str | None = None
    """The later request by which the same was asked again in other words."""


class Control(Record, frozen=True, kw_only=True):
    """An operator's command to all processes, kept compacted by ``key``."""

    key: str
    command: str
    issued_ms: int
    issued_by: str
    arguments: dict[str, str] = {}


class Event(Record, frozen=True, kw_only=True):
    """What a part of the system did, for operators: acknowledgements and an audit trail."""

    event: str
    source: str
    """The part that speaks: ``job``, ``worker``, ``client``, ``ops``."""
    happened_ms: int
    attributes: dict[str, str] = {}


class Audit(Record, frozen=True, kw_only=True):
    """What was found out about one tier's answer to a request, mostly by having another one answer it too.

    It carries what a router learns from.
    """

    request_id: str
    tenant: str
    audited_ms: int
    reason: str
    """``tier_above`` or ``tier_below``: what the tier next to it answers; ``escalation``: its answer did not go out;
    ``remembered``: nothing yet, kept for the feedback that may come; ``rollout/<name>``: what another arm answers."""
    tier: str
    """Whose answer this is about, which but for ``escalation`` is the one that was served."""
    model_id: str
    category: str = "default"
    weight: int = 1
    """For how many requests of its tier and category it stands: itself, and those since the last one audited."""
    arm: str | None = None
    """The arm in which the other answer was given, as in ``Reply``; where there is none, that of this one."""
    cost: float = 0.0
    latency_ms: float = 0.0
    """Of the generation, as ``Latency.generation_ms``."""
    other_tier: str | None = None
    """Who answered besides; absent where nobody did."""
    other_model_id: str | None = None
    other_cost: float = 0.0
    """At the price of the batch lane."""
    other_latency_ms: float = 0.0
    """Of the generation on the batch lane."""
    other_error: str | None = None
    """One of ``errors.ErrorCode``, where the other gave no answer."""
    agrees: bool | None = None
    """Whether both answers say the same; absent where that cannot be told."""
    judged_by: str | None = None
    """What decided: ``text``, ``json``, ``details``, ``embedding`` or ``model``; of an escalation its reason."""
    features: dict[str, float] = {}
    """Of the route, so as they were at the time."""
    question: str | None = None
    """The user's last turn, cut where it is long; absent where somebody else spoke last."""


class BatchState(Record, frozen=True, kw_only=True):
    """How far the file of a batch is published, kept compacted by ``batch_id``.

    It is written in one transaction with the requests that it counts, by the one process that holds the batch's
    transactional id: so whoever goes on after a crash sends no row twice, and leaves none out.
    """

    batch_id: str
    """As in ``batches``, of which its requests' ids are made."""
    tenant: str
    stage: str
    """One of ``batches.Stage``."""
    created_ms: int
    updated_ms: int
    deadline_ms: int
    """The end of its completion window: the deadline of all its requests."""
    source: str
    """The file, as its submitter named it."""
    source_digest: str
    """SHA-256 of the file, in hex."""
    options: str
    """JSON text: how rows become requests."""
    rows: int
    """In the file."""
    read: int = 0
    """From the first row on, those that were published or refused."""
    sent: int = 0
    """Those that were published."""
    reply_topic: str
    replies_from: list[int]
    """Where each partition of the reply topic ended before the first row was published."""
    price_ceiling: float | None = None
    """US dollars that the batch may cost."""
