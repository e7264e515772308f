"""Knows every request that the brokers accepted and every reply that was seen, and says what is wrong with them.

Both are read from the topics themselves, as any reader of committed records does; what a client handed over is told by
its process. Times are seconds of the monotonic clock.
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import Consumer
from forebay_client.errors import ClientClosed, ReplyTimeout
from forebay_schemas.canonical import category_of
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.records import CacheStatus, Lane, Reply, Request, Result
from forebay_schemas.topic_probe import TopicProbe

from .answers import ALIKE, alike, answer
from .publisher import Event

Key = tuple[str, str]
"""Tenant and request id."""

_GENERATED = (CacheStatus.MISS, CacheStatus.BYPASS)
UNPUBLISHED = "unpublished"
_GIVEN_UP = (ReplyTimeout.__name__, ClientClosed.__name__)
_LOOK_EVERY_S = 1.0
_STATE_TIMEOUT_S = 0.5
_SILENCE_S = 8.0
"""Then the consumer is taken for lost: one that asked where a lone broker was in the moment after a freeze in which the
cluster had none does not ask again (librdkafka 2.16)."""


@dataclass
class Asked:
    """All that is known of one request."""

    question: str = ""
    seen_s: float = field(default_factory=time.monotonic)
    """When it was first heard of."""
    sender: str | None = None
    """The client that awaits it; absent: one that the checker does not hear, such as the gateway."""
    sent_s: float = 0.0
    accepted: bool = False
    """Whether it is on a request topic."""
    category: str | None = None
    """Absent: it was not seen on a request topic."""
    lane: Lane = Lane.INTERACTIVE
    created_ms: int = 0
    deadline_ms: int | None = None
    committed: list[Reply] = field(default_factory=list)
    """On the reply topic, in the order of reading."""
    committed_s: float | None = None
    handed: list[Event] = field(default_factory=list)
    """What its client was given: replies."""
    results: Counter[str] = field(default_factory=Counter)
    """With an older job, how often each task of it was answered; with today's, which gives it one, not looked at."""
    refused: str | None = None
    """Why its client says that it could not be published."""
    given_up: str | None = None
    """Which error its client waited no longer with."""

    def take(self, record: Request | Reply) -> None:
        """Note what was read of it."""
        if isinstance(record, Request):
            self.accepted, self.category = True, category_of(record)
            self.lane, self.created_ms, self.deadline_ms = record.lane, record.created_ms, record.deadline_ms
            self.question = self.question or record.messages[-1].content or ""
        else:
            self.committed.append(record)
            self.committed_s = self.committed_s or time.monotonic()

    def answered(self, killed: set[str]) -> bool:
        """Whether its reply is on the topic and, unless its sender was killed, was handed over."""
        return bool(self.committed) and (bool(self.handed) or self.sender is None or self.sender in killed)

    @property
    def open(self) -> bool:
        """Whether a reply is owed and not there."""
        return self.accepted and not self.committed

    def lost(self, killed: set[str]) -> bool:
        """Whether a reply is owed and did not come: to the topic, or to a client, which may give up one alone that was
        to come in time."""
        late = self.given_up == ReplyTimeout.__name__ and self.deadline_ms is not None
        heard = self.handed or self.refused is not None or late
        return self.open or not (heard or self.sender is None or self.sender in killed)

    @property
    def repeated(self) -> bool:
        """Whether a worker's reply to a task is there twice for readers of committed records, or a client was given
        two."""
        # Errors of workers among them; those that the job tells have no route.
        generated = sum(reply.cache_status in _GENERATED and reply.route is not None for reply in self.committed)
        again = max(self.results.values()) > 1 if self.results else generated > 1
        return again or len(self.handed) > 1

    @property
    def errors(self) -> list[str]:
        """The codes of its error replies; ``UNPUBLISHED`` where its client said that the brokers do not take it."""
        told = [reply.error.code for reply in self.committed if reply.error]
        return told if self.accepted or self.refused is None else [*told, UNPUBLISHED]


def wrong(key: Key, requests: Mapping[Key, Asked]) -> bool:
    """Whether any answer to a request is another's; each holds its question, and that its tenant."""
    tenant, asked = key[0], requests[key]
    given = [reply for reply in asked.committed if reply.error is None]
    for reply in given:
        if reply.cache_status is CacheStatus.SEMANTIC:
            right = _right_by_meaning(asked, reply, requests.get((tenant, reply.matched_request_id or "")))
        else:
            right = reply.text == answer(asked.question)
        if not right:
            return True
    texts = [reply.text for reply in given]
    return any(event.text not in texts for event in asked.handed if event.error is None)


def _right_by_meaning(asked: Asked, reply: Reply, source: Asked | None) -> bool:
    """Whether it may be given by meaning, and is the answer of the tenant's request that it names, which asks the same.

    Where the category is not known, the question tells: of other categories none is like another.
    """
    if source is None or asked.category not in (ALIKE, None):
        return False
    return alike(asked.question, source.question) and reply.text == answer(source.question)


class Checker:
    """See the module. Use it as a context manager.

    Args:
        older_job: whether the job is of the older version, which had a defect of its own: where it read a request again
            and Redis was late at one of the two times, it gave it another task. Each of these is to be answered once.
    """

    def __init__(self, config: Config, *, older_job: bool = False) -> None:
        self._codec = Codec()
        self._topics = config.kafka.topics
        settings = {
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "auto_offset_reset": "earliest",
            # A partition that is added is read before another fault takes the topic away.
            "topic_metadata_refresh_interval_ms": 1000,
        }
        # Brokers that are away are meant to be: nothing is said of it.
        self._settings = config.kafka.client(**settings) | {"log_level": 0}
        self._probe = TopicProbe(config.kafka)
        results = [self._topics.results] if older_job else []
        self._read = [self._topics.requests, self._topics.requests_batch, self._topics.replies, *results]
        self._topic_ids: dict[str, str] = {}
        self._seen: set[tuple[str | None, int | None, int | None, int]] = set()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._asked: dict[Key, Asked] = {}
        self.living: set[str] = set()
        """The clients that run."""
        self.killed: set[str] = set()
        """Those that cannot tell any more what they were given."""
        self.reply_appended_s = 0.0
        """When the reply that was read last came to the brokers, as the time of day by their clock."""

    def __enter__(self) -> "Checker":
        self._reading = threading.Thread(target=self._follow, daemon=True)
        self._reading.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._reading.join()

    def told(self, sender: str, event: Event) -> None:
        """A client told of an event."""
        with self._lock:
            asked = self._asked.setdefault((event.tenant, event.request_id), Asked())
            if event.what == "sent":
                asked.sender, asked.sent_s, asked.question = sender, time.monotonic(), event.text
            elif event.what == "reply":
                asked.handed.append(event)
            elif event.error in _GIVEN_UP:
                asked.given_up = event.error
            else:
                asked.refused = event.text

    def in_flight(self) -> set[Key]:
        """The requests that the brokers accepted and nobody answered."""
        with self._lock:
            return {key for key, asked in self._asked.items() if asked.open}

    def all_answered(self, keys: set[Key]) -> bool:
        """Whether each of these has its reply."""
        with self._lock:
            return all(self._asked[key].answered(self.killed) for key in keys)

    def answered_since(self, moment_s: float) -> bool:
        """Whether a request that every living client sent after the moment has its reply."""
        with self._lock:
            new = [one for one in self._asked.values() if one.sent_s > moment_s and one.answered(self.killed)]
            return self.living <= {one.sender for one in new}

    def answered_before(self, moment_s: float) -> bool:
        """Whether each request that was there before the moment has its reply."""
        with self._lock:
            return not any(one.open for one in self._asked.values() if one.seen_s < moment_s)

    def requests(self) -> dict[Key, Asked]:
        """What is known of each request now."""
        with self._lock:
            return dict(self._asked)

    def _follow(self) -> None:
        consumer = self._subscribed()
        look_s = heard_s = time.monotonic()
        while not self._stop.is_set():
            if time.monotonic() >= look_s:
                look_s = time.monotonic() + _LOOK_EVERY_S
                if self._made_anew() or look_s > heard_s + _SILENCE_S:
                    threading.Thread(target=consumer.close, daemon=True).start()  # one that is lost takes its time
                    consumer, heard_s = self._subscribed(), time.monotonic()
            message = consumer.poll(0.1)
            if message is None or message.error():
                continue  # a broker that went away
            heard_s = time.monotonic()
            # With its time: of a topic that was made anew the offsets begin anew.
            place = (message.topic(), message.partition(), message.offset(), message.timestamp()[1])
            if place in self._seen:
                continue  # read again after a rebalance
            self._seen.add(place)
            if message.topic() == self._topics.results:
                self._note_result(message.value() or b"")
            else:
                self._take(message.topic() or "", message.value() or b"")
            if message.topic() == self._topics.replies:
                self.reply_appended_s = message.timestamp()[1] / 1000
        consumer.close()

    def _subscribed(self) -> Consumer:
        consumer = Consumer({**self._settings, "group.id": uuid.uuid4().hex})
        consumer.subscribe(self._read)
        return consumer

    def _made_anew(self) -> bool:
        """Whether any of them is another topic of the same name since the last look."""
        before = self._topic_ids
        self._topic_ids = before | self._probe.ids(self._read, _STATE_TIMEOUT_S)
        return any(self._topic_ids[topic] != told for topic, told in before.items())

    def _note_result(self, value: bytes) -> None:
        try:
            result = self._codec.decode(value, Result)
            reply = self._codec.decode(result.reply, Reply)
        except RecordError:
            return
        with self._lock:
            self._asked.setdefault((reply.tenant, reply.request_id), Asked()).results[result.task_id] += 1

    def _take(self, topic: str, value: bytes) -> None:
        try:
            record = self._codec.decode(value, Reply if topic == self._topics.replies else Request)
        except RecordError:
            return
        with self._lock:
            self._asked.setdefault((record.tenant, record.request_id), Asked()).take(record)
