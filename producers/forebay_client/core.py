"""What the sync and the asyncio client share: one producer, one reader thread, one table of awaited replies."""

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import msgspec
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError, ForebayError, InvalidRequest
from forebay_schemas.records import Lane, Reply, Request
from forebay_schemas.registry import codec_for
from forebay_schemas.topics import Headers
from forebay_schemas.validation import validate

from .errors import BrokerUnavailable, ClientClosed, RequestTooLarge
from .feed import ReplyFeed
from .inbox import Inbox, ReplyRecord
from .outbox import OnDelivery, Outbox
from .outstanding import Outstanding
from .requests import Question, build_request

POLL_S = 0.05
"""How late a timeout or a delivery failure may be noticed; a reply is noticed at once."""
UNTIL_ANSWERED_S = 24 * 3600.0
"""How long a callback is kept for a request without a deadline: as long as the batch lane may take."""
_CONNECT_S = 10.0
_DEADLINE_GRACE_S = 60.0
"""The error reply to a request that is past its deadline may come this much later."""
_EXIT_FLUSH_S = 5.0
_MAX_UNDELIVERED = 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A published request whose reply is awaited."""

    request_id: str
    future: Future[Reply]


@dataclass(frozen=True, slots=True)
class _Prepared:
    request: Request
    value: bytes
    headers: Headers


class Core:
    """See the module. Safe to share between threads; not usable in a process forked from the one that made it.

    Args:
        tenant: of requests that name none.
        reply_topic: absent: the standard one.

    Raises:
        ConfigError: the reply topic is not among the allowed ones, or the Kafka settings cannot work.
    """

    def __init__(self, config: Config, tenant: str | None, reply_topic: str | None) -> None:
        topics = config.kafka.topics
        if reply_topic not in (None, topics.replies, *config.kafka.reply_topics):
            raise ConfigError(f"reply_topic: {reply_topic!a} is not allowed; add it to kafka.reply_topics")
        self.tenant = tenant
        self._config = config
        self._codec = codec_for(config)
        self._reply_topic = reply_topic or topics.replies
        self._reply_key = os.urandom(12).hex()
        self._outbox = Outbox(config)
        self._outstanding = Outstanding()
        self._undelivered: deque[str] = deque(maxlen=_MAX_UNDELIVERED)
        self._reader: threading.Thread | None = None
        self._reader_lock = threading.Lock()
        self._feeds: set[ReplyFeed] = set()
        self._closing = threading.Event()
        self._pid = os.getpid()
        # A script that ends without closing its client has still published what it said it published.
        self._at_exit = weakref.finalize(self, _flush_at_exit, self._outbox, self._pid)

    def publish(self, question: Question | None, fields: Mapping[str, Any]) -> str:
        """Publish a request whose reply this client does not await; returns its id."""
        self.check_usable()
        prepared = self._prepare(question, fields, None)
        request_id = prepared.request.request_id

        def on_delivery(problem: str | None) -> None:
            if problem is not None:
                _log.error("request %s was not published: %s", request_id, problem)
                self._undelivered.append(request_id)

        self._send(prepared, prepared.headers, on_delivery)
        self._outbox.serve()
        return request_id

    def submit(
        self,
        question: Question | None,
        fields: Mapping[str, Any],
        timeout_s: float | None = None,
        asked_s: float | None = None,
    ) -> Ticket:
        """Publish a request and await its reply.

        Args:
            timeout_s: how long to wait; also the request's deadline unless it has one, because nobody should pay for
                what no one waits for. Absent: until a while after the deadline, else ``UNTIL_ANSWERED_S``.
            asked_s: when the waiting began, in seconds of the monotonic clock; absent: now.
        """
        asked_s = asked_s or time.monotonic()
        self.check_usable()
        prepared = self._prepare(question, fields, timeout_s)
        request = prepared.request
        key = (request.tenant, request.request_id)
        due_s = asked_s + (_patience_s(request) if timeout_s is None else timeout_s)
        self._read_replies(until_s=min(due_s, asked_s + _CONNECT_S))
        future = self._outstanding.expect(key, asked_s, due_s)

        def on_delivery(problem: str | None) -> None:
            if problem is None:
                self._outstanding.accepted(key)
            else:
                message = f"request {request.request_id} was not published: {problem}"
                self._outstanding.settle(key, BrokerUnavailable(message, (request.request_id,)))

        try:
            self._send(prepared, msgspec.structs.replace(prepared.headers, reply_key=self._reply_key), on_delivery)
        except ForebayError:
            future.cancel()
            raise
        return Ticket(request.request_id, future)

    def wait(self, timeout_s: float | None) -> int:
        """Wait for all awaited replies; returns how many are missing after the timeout."""
        self._refuse_on_reader()
        return self._outstanding.wait(timeout_s)

    def result(self, ticket: Ticket) -> Reply:
        """Wait for one reply; the reader thread keeps the ticket's time.

        Raises:
            BrokerUnavailable, ReplyTimeout, ClientClosed: why none came.
        """
        self._refuse_on_reader()
        return ticket.future.result()

    def flush(self, timeout_s: float) -> None:
        """Wait until the brokers have everything that was published.

        Raises:
            BrokerUnavailable: something is left after the timeout, or was given up since the last call.
        """
        left = self._outbox.flush(timeout_s)
        lost = tuple(self._undelivered.popleft() for _ in range(len(self._undelivered)))
        if left or lost:
            raise BrokerUnavailable(
                f"{left + len(lost)} requests did not reach the brokers at {self._config.kafka.bootstrap};"
                " check that they run, and publish again with the same request_id",
                lost,
            )

    def open_feed(self, group: str | None, from_beginning: bool) -> ReplyFeed:
        """Open a feed of all replies; it ends with the client, or before."""
        self.check_usable()
        feed = ReplyFeed(self._config, self._codec, self._reply_topic, group, from_beginning)
        self._feeds.add(feed)
        return feed

    def close_feed(self, feed: ReplyFeed) -> None:
        """Close a feed before the client."""
        feed.close()
        self._feeds.discard(feed)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closing.is_set()

    def close(self, timeout_s: float) -> None:
        """Flush, fail what is still awaited, and let go of thread and connections. A second call does nothing.

        Raises:
            BrokerUnavailable: as ``flush`` does.
        """
        if self.closed or self._pid != os.getpid():
            return
        try:
            self.flush(timeout_s)
        finally:
            self._closing.set()
            if self._reader and self._reader is not threading.current_thread():
                self._reader.join()
            self._outstanding.close("the client was closed before the reply came")
            for feed in list(self._feeds):
                self.close_feed(feed)
            self._outbox.close()
            self._at_exit.detach()

    def _prepare(self, question: Question | None, fields: Mapping[str, Any], timeout_s: float | None) -> _Prepared:
        now_ms = time.time_ns() // 1_000_000
        request, traceparent = build_request(question, fields, tenant=self.tenant, now_ms=now_ms)
        if timeout_s is not None:
            if not timeout_s > 0:
                raise InvalidRequest("timeout_s", f"is {timeout_s}", "give a positive number of seconds")
            if request.deadline_ms is None:
                request = msgspec.structs.replace(request, deadline_ms=now_ms + round(timeout_s * 1000))
        validate(request, self._config)
        value = self._codec.encode(request)
        if len(value) > self._config.kafka.max_record_bytes:
            raise RequestTooLarge(len(value), self._config.kafka.max_record_bytes)
        headers = Headers(
            request_id=request.request_id,
            tenant=request.tenant,
            reply_topic=None if self._reply_topic == self._config.kafka.topics.replies else self._reply_topic,
            deadline_ms=request.deadline_ms,
            traceparent=traceparent,
        )
        return _Prepared(request, value, headers)

    def _send(self, prepared: _Prepared, headers: Headers, on_delivery: OnDelivery) -> None:
        request = prepared.request
        topic, key = self._topic(request), request.request_id.encode()
        self._outbox.send(topic, key, prepared.value, headers.to_kafka(), on_delivery)

    def _topic(self, request: Request) -> str:
        """The tenant's own topic for the lane where the configuration has one, else the standard one."""
        for name, bound in self._config.request_topics.items():
            if bound.tenant == request.tenant and bound.lane == request.lane:
                return name
        topics = self._config.kafka.topics
        return topics.requests_batch if request.lane is Lane.BATCH else topics.requests

    def check_usable(self) -> None:
        """Refuse what a closed client, or one of a parent process, cannot do."""
        if self._pid != os.getpid():
            raise RuntimeError("this client was made before the process forked; make one in each process")
        if self.closed:
            raise ClientClosed("the client is closed; make a new one")

    def _refuse_on_reader(self) -> None:
        if threading.current_thread() is self._reader:
            raise RuntimeError("a callback cannot wait for a reply: its thread reads them; do it on another thread")

    def _read_replies(self, until_s: float) -> None:
        """Start the reader unless it runs. A client that only publishes never comes here."""
        if self._reader is not None:
            return
        if not self._reader_lock.acquire(timeout=max(0.0, until_s - time.monotonic())):
            raise BrokerUnavailable(f"the brokers at {self._config.kafka.bootstrap} do not answer; check that they run")
        try:
            if self._reader is None:
                left_s = max(0.001, until_s - time.monotonic())
                inbox = Inbox(self._config, self._reply_topic, self._reply_key, left_s)
                self._reader = threading.Thread(target=self._read, args=(inbox,), name="forebay-client", daemon=True)
                self._reader.start()
        finally:
            self._reader_lock.release()

    def _read(self, inbox: Inbox) -> None:
        try:
            while not self.closed:
                record = inbox.poll(POLL_S)
                self._outbox.serve()
                if record is not None:
                    self._take(record)
                self._outstanding.expire(time.monotonic())
        except Exception as error:
            _log.exception("the client cannot read replies any more")
            self._outstanding.close(f"the client broke ({error}); close it and make a new one")
        finally:
            inbox.close()

    def _take(self, record: ReplyRecord) -> None:
        try:
            headers = Headers.from_kafka(record.headers)
        except ForebayError as error:
            _log.warning("a reply is passed over: %s", error)
            return
        key = (headers.tenant or "", headers.request_id or "")
        if not self._outstanding.awaits(key):
            return  # another client's, or a repeat
        try:
            reply = self._codec.decode(record.value, Reply)
        except ForebayError as error:
            self._outstanding.settle(key, error)
        else:
            self._outstanding.settle(key, reply)


def _patience_s(request: Request) -> float:
    if request.deadline_ms is None:
        return UNTIL_ANSWERED_S
    return max(0.0, request.deadline_ms / 1000 - time.time()) + _DEADLINE_GRACE_S


def _flush_at_exit(outbox: Outbox, pid: int) -> None:
    if pid == os.getpid():  # librdkafka's threads do not live on in a forked process
        outbox.flush(_EXIT_FLUSH_S)
