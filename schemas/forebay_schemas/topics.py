"""The names of topics and headers, and how the topics are made."""

import re
import zlib
from dataclasses import dataclass, field

import msgspec

from .errors import ErrorCode, RecordError
from .records import Lane

RECORD_HEADROOM_BYTES = 128 * 1024
"""What a task or a result may be larger than the request or reply inside it (route, ids, addresses), and a
dead letter larger than the bytes it keeps."""

DEAD_LETTER_BYTES = 64 * 1024
"""Of a longer value a dead letter keeps this much from the beginning, its length and its digest."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one installation, all under one prefix."""

    prefix: str = "llm"

    @property
    def requests(self) -> str:
        return f"{self.prefix}.requests"

    @property
    def requests_batch(self) -> str:
        return f"{self.prefix}.requests.batch"

    def tier(self, tier: str, lane: Lane) -> str:
        suffix = ".batch" if lane is Lane.BATCH else ""
        return f"{self.prefix}.tier.{tier}{suffix}"

    @property
    def results(self) -> str:
        return f"{self.prefix}.results"

    @property
    def replies(self) -> str:
        return f"{self.prefix}.replies"

    @property
    def replies_stream(self) -> str:
        return f"{self.prefix}.replies.stream"

    @property
    def dead(self) -> str:
        return f"{self.prefix}.requests.dead"

    @property
    def feedback(self) -> str:
        return f"{self.prefix}.feedback"

    @property
    def control(self) -> str:
        return f"{self.prefix}.control"

    @property
    def events(self) -> str:
        return f"{self.prefix}.events"

    @property
    def audit(self) -> str:
        return f"{self.prefix}.audit"

    @property
    def batches(self) -> str:
        return f"{self.prefix}.batches"

    @property
    def job_group(self) -> str:
        """The consumer group of the job's sources."""
        return f"{self.prefix}-job"

    def workers_group(self, tier: str, lane: Lane) -> str:
        """The consumer group of the workers that serve a tier, one for each lane."""
        suffix = "-batch" if lane is Lane.BATCH else ""
        return f"{self.prefix}-workers-{tier}{suffix}"


def task_key(prefix: str | None, task_id: str, spread: int = 1) -> str:
    """The Kafka key of a task: tasks of one static prefix meet in one partition, at the worker that has it cached.

    A task that is written twice is known as a repeat in the partition of the first one. Without a prefix both have one
    key. With one they do where ``spread`` is the same both times; it follows from counts, so that nobody can promise
    that. Otherwise the task is answered twice, and its asker's client passes over the second reply.

    Args:
        prefix: digest of the request's static turns; None where any worker will do.
        task_id: of the task.
        spread: number of keys over which the prefix's tasks are spread by their ids; 1: all share one. When it
            doubles, each key keeps half of its tasks.
    """
    if prefix is None:
        return task_id
    slot = zlib.crc32(task_id.encode()) % spread
    return f"{prefix}/{slot}" if slot else prefix


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it is created."""

    name: str
    partitions: int
    settings: dict[str, str] = field(default_factory=dict)


REQUEST_ID = "forebay-request-id"
TENANT = "forebay-tenant"
REPLY_TOPIC = "forebay-reply-topic"
REPLY_KEY = "forebay-reply-key"
DEADLINE = "forebay-deadline-ms"
BUCKET = "forebay-bucket"
TASK = "forebay-task"
TRACEPARENT = "traceparent"

HEADERS = {
    REQUEST_ID: "Id of the request, as in the value.",
    TENANT: "Whose request it is, as in the value.",
    REPLY_TOPIC: "Where the reply goes, one of kafka.reply_topics; absent: to the standard topic.",
    REPLY_KEY: "Kafka key of the reply and its chunks; absent: the request id. Who wants all replies on one partition"
    " chooses a key that hashes there, by murmur2.",
    DEADLINE: "When nobody needs the answer any more, as in the value: milliseconds since the Unix epoch, in decimals.",
    BUCKET: "Key of the state in the job that the result belongs to.",
    TASK: "Id and hop of the task, by which a repeat of it is known.",
    TRACEPARENT: "W3C trace context.",
}
"""What each header says, as text in UTF-8; what a record has nothing to say of is left out."""

MAX_HEADER_BYTES = 1_024
"""Of one header that is read here; a reply repeats them, so they must not make it larger than a record may be."""
_DEADLINE = re.compile(r"[0-9]{1,18}", re.ASCII)


class Headers(msgspec.Struct, frozen=True, kw_only=True):
    """What must be readable without decoding the value.

    ``reply_key`` is the Kafka key of the reply. A client that wants its replies on one partition chooses a key
    that hashes there (murmur2, as all producers of replies are set); without one the request id is the key.
    """

    request_id: str | None = None
    tenant: str | None = None
    reply_topic: str | None = None
    reply_key: str | None = None
    deadline_ms: int | None = None
    bucket: str | None = None
    task: str | None = None
    """Of a task: its id and hop, by which a repeat of it is known without decoding."""
    traceparent: str | None = None

    def to_kafka(self) -> dict[str, bytes]:
        """The headers as Kafka carries them; absent ones are left out."""
        return {
            name: str(value).encode()
            for name, attribute in _ATTRIBUTES.items()
            if (value := getattr(self, attribute)) is not None
        }

    @classmethod
    def from_kafka(cls, raw: dict[str, bytes | None] | list[tuple[str, bytes | None]] | None) -> "Headers":
        """Read the headers of a record; unknown names are passed over, of repeated names the last counts.

        Raises:
            RecordError: a header's value is not UTF-8 or too long, or the deadline is no whole number.
        """
        if not raw:
            return cls()
        pairs = raw.items() if isinstance(raw, dict) else raw
        values: dict[str, str | int] = {}
        for name, value in pairs:
            attribute = _ATTRIBUTES.get(name)
            if attribute is None or value is None:
                continue
            if len(value) > MAX_HEADER_BYTES:
                problem = f"has {len(value)} bytes; use at most {MAX_HEADER_BYTES}"
                raise RecordError(ErrorCode.MALFORMED, problem, f"header {name}")
            try:
                text = bytes(value).decode()
            except ValueError as error:
                raise RecordError(ErrorCode.MALFORMED, f"is no UTF-8 ({error})", f"header {name}") from None
            if name == DEADLINE and not _DEADLINE.fullmatch(text):
                problem = f"is {text[:40]!a}; give milliseconds since the Unix epoch"
                raise RecordError(ErrorCode.MALFORMED, problem, f"header {name}")
            values[attribute] = int(text) if name == DEADLINE else text
        return cls(**values)  # pyright: ignore[reportArgumentType]: DEADLINE alone is a number


_ATTRIBUTES = {
    REQUEST_ID: "request_id",
    TENANT: "tenant",
    REPLY_TOPIC: "reply_topic",
    REPLY_KEY: "reply_key",
    DEADLINE: "deadline_ms",
    BUCKET: "bucket",
    TASK: "task",
    TRACEPARENT: "traceparent",
}
