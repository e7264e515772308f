"""What the sync and the asyncio client share: one producer, one table of awaited replies, and who reads for it."""

import logging
import os
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from forebay_schemas import commands
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError, ForebayError
from forebay_schemas.records import Chunk, Control, Reply, Request
from forebay_schemas.registry import codec_for
from forebay_schemas.topics import Headers
from forebay_schemas.tracing import tracing_for

from . import traces
from .errors import BrokerUnavailable, ClientClosed
from .feed import ReplyFeed
from .feedback import build_feedback
from .inbox import Inbox, ReplyRecord
from .invalidation import Invalidated, await_acknowledgement, build_invalidation
from .outbox import DELIVERY_TIMEOUT_S, OnDelivery, Outbox
from .outstanding import Key, Outstanding
from .preparing import Preparation, Prepared
from .requests import Question, build_cancellation

if TYPE_CHECKING:
    from forebay_schemas.spans import Tracing

POLL_S = 0.05
"""How late a timeout or a delivery failure may be noticed; a reply is noticed at once."""
UNTIL_ANSWERED_S = 24 * 3600.0
"""How long a callback is kept for a request without a deadline: as long as the batch lane may take."""
_CONNECT_S = 10.0
_DEADLINE_GRACE_S = 60.0
"""The error reply to a request that is past its deadline may come this much later."""
_EXIT_FLUSH_S = 5.0
_MAX_UNDELIVERED = 1000
_FOREIGN = "its headers name another request than it is for"

OnChunk = Callable[[Chunk], object]
"""Is given each piece of an answer, on the thread that reads them."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A published request whose reply is awaited."""

    tenant: str
    request_id: str
    future: Future[Reply]


class Core:
    """See the module. Safe to share between threads; not usable in a process forked from the one that made it.

    Args:
        tenant: of requests that name none.
        reply_topic: absent: the standard one.

    Raises:
        ConfigError: the reply topic is not among the allowed ones, the Kafka settings cannot work, or a package for
            tracing is missing.
    """

    def __init__(self, config: Config, tenant: str | None, reply_topic: str | None) -> None:
        topics = config.kafka.topics
        if reply_topic not in (None, topics.replies, *config.kafka.reply_topics):
            raise ConfigError(f"reply_topic: {reply_topic!a} is not allowed; add it to kafka.reply_topics")
        self.tenant = tenant
        self._config = config
        self._codec = codec_for(config)
        self._tracing = tracing_for(config, "client")
        self._reply_topic = reply_topic or topics.replies
        named = None if self._reply_topic == topics.replies else self._reply_topic
        self._preparation = Preparation(config, self._codec, self._tracing, tenant, named)
        self._reply_key = os.urandom(12).hex()
        self._outbox = Outbox(config)
        self._outstanding = Outstanding()
        self._undelivered: deque[str] = deque(maxlen=_MAX_UNDELIVERED)
        self._on_chunk: dict[Key, OnChunk] = {}
        self._left: deque[Ticket] = deque()
        self._readers: dict[str, threading.Thread] = {}
        self._readers_lock = threading.Lock()
        self._feeds: set[ReplyFeed] = set()
        self._closing = threading.Event()
        self._pid = os.getpid()
        # A script that ends without closing its client has still published what it said it published.
        self._at_exit = weakref.finalize(self, _flush_at_exit, self._outbox, self._tracing, self._pid)

    def publish(self, question: Question | None, fields: Mapping[str, Any]) -> str:
        """Publish a request whose reply this client does not await; returns its id."""
        self.check_usable()
        prepared = self._preparation.prepare(question, fields, None)
        request_id = prepared.request.request_id
        on_delivery = self._reporter(request_id, "request")
        if prepared.span:
            on_delivery = traces.until_delivered(prepared.span, prepared.request, on_delivery)
        self._send(prepared, prepared.headers, on_delivery)
        self._outbox.serve()
        return request_id

    def cancel(self, request_id: str, tenant: str | None) -> None:
        """Publish that a request is taken back.

        Args:
            tenant: whose request it is; absent: the client's.

        Raises:
            InvalidRequest: the request is not named.
            BrokerUnavailable: the queue is full.
        """
        self.check_usable()
        control = build_cancellation(request_id, tenant or self.tenant, time.time_ns() // 1_000_000)
        self._command(control, self._reporter(request_id, "cancellation of request"))

    def publish_invalidation(self, fields: Mapping[str, Any], issued_by: str) -> str:
        """Publish that answers hold no longer; returns the command's id.

        Raises:
            InvalidRequest: it is not clear which.
            BrokerUnavailable: the queue is full.
        """
        self.check_usable()
        command_id = uuid.uuid4().hex
        self._command(self._invalidation(fields, issued_by, command_id), self._reporter(command_id, "invalidation"))
        return command_id

    def invalidate(self, fields: Mapping[str, Any], issued_by: str, timeout_s: float) -> Invalidated:
        """Publish that answers hold no longer, and wait until the job says that it is so everywhere.

        Raises:
            InvalidRequest: it is not clear which.
            BrokerUnavailable: the brokers did not take it, or events cannot be read.
            InvalidationPending: it was not acknowledged in time.
        """
        self.check_usable()
        self.refuse_on_reader()
        command_id = uuid.uuid4().hex
        control = self._invalidation(fields, issued_by, command_id)
        problems: list[str | None] = []

        def undelivered() -> str | None:
            self._outbox.serve()
            return next(filter(None, problems), None)

        # The acknowledgement's key is the id, so it comes on the partition that this one is read from.
        with closing(Inbox(self._config, self._config.kafka.topics.events, command_id, _CONNECT_S)) as inbox:
            self._command(control, problems.append)
            return await_acknowledgement(inbox, self._codec, command_id, timeout_s, undelivered)

    def feedback(self, request_id: str, verdict: str, fields: Mapping[str, Any]) -> None:
        """Publish what was thought of the answer to a request.

        Raises:
            InvalidRequest: a field has a value that cannot be used.
            BrokerUnavailable: the queue is full.
        """
        self.check_usable()
        now_ms = time.time_ns() // 1_000_000
        feedback = build_feedback(request_id, verdict, fields, tenant=self.tenant, now_ms=now_ms)
        headers = Headers(request_id=request_id, tenant=feedback.tenant).to_kafka()
        # By this key all feedback on a request lies in one partition, in the order in which it was given.
        key, topic = request_id.encode(), self._feedback_topic(feedback.tenant)
        on_delivery = self._reporter(request_id, "feedback on request")
        self._outbox.send(topic, key, self._codec.encode(feedback), headers, on_delivery)
        self._outbox.serve()

    def withdraw(self, ticket: Ticket) -> None:
        """Its asker has left: the reader soon cancels the request, unless the reply comes first.

        This takes no lock, because the garbage collector comes here, at any moment.
        """
        self._left.append(ticket)

    def submit(
        self,
        question: Question | None,
        fields: Mapping[str, Any],
        timeout_s: float | None = None,
        asked_s: float | None = None,
        on_chunk: OnChunk | None = None,
    ) -> Ticket:
        """Publish a request and await its reply.

        Args:
            timeout_s: how long to wait; also the request's deadline unless it has one, because nobody should pay for
                what no one waits for. Absent: until a while after the deadline, else ``UNTIL_ANSWERED_S``.
            asked_s: when the waiting began, in seconds of the monotonic clock; absent: now.
            on_chunk: gets the pieces of the answer, until the reply has come.
        """
        asked_s = asked_s or time.monotonic()
        self.check_usable()
        prepared = self._preparation.prepare(question, fields, timeout_s)
        request = prepared.request
        key = (request.tenant, request.request_id)
        due_s = asked_s + (_patience_s(request) if timeout_s is None else timeout_s)
        connect_until_s = min(due_s, asked_s + _CONNECT_S)
        self._start_reader(self._reply_topic, self._read_replies, connect_until_s)
        if on_chunk:
            self._start_reader(self._config.kafka.topics.replies_stream, self._read_chunks, connect_until_s)
        future = self._outstanding.expect(key, asked_s, due_s)
        if prepared.span:
            traces.until_answered(prepared.span, request, future)
        if on_chunk:
            self._on_chunk[key] = on_chunk
            future.add_done_callback(lambda _: self._on_chunk.pop(key))

        def on_delivery(problem: str | None) -> None:
            if problem is None:
                self._outstanding.accepted(key)
            else:
                message = f"request {request.request_id} was not published: {problem}"
                self._outstanding.settle(key, BrokerUnavailable(message, (request.request_id,)))

        try:
            headers = msgspec.structs.replace(prepared.headers, reply_key=self._reply_key)
            wait_s = min(DELIVERY_TIMEOUT_S, max(0.0, due_s - time.monotonic()))
            self._send(prepared, headers, on_delivery, wait_s)
        except ForebayError:
            future.cancel()
            raise
        return Ticket(request.tenant, request.request_id, future)

    def wait(self, timeout_s: float | None) -> int:
        """Wait for all awaited replies; returns how many are missing after the timeout."""
        self.refuse_on_reader()
        return self._outstanding.wait(timeout_s)

    def result(self, ticket: Ticket) -> Reply:
        """Wait for one reply; the reader thread keeps the ticket's time. Ctrl-C cancels the request.

        Raises:
            BrokerUnavailable, ReplyTimeout, ClientClosed: why none came.
        """
        self.refuse_on_reader()
        try:
            return ticket.future.result()
        finally:
            if not ticket.future.done():
                self.withdraw(ticket)

    def flush(self, timeout_s: float) -> None:
        """Wait until the brokers have everything that was published.

        Raises:
            BrokerUnavailable: something is left after the timeout, or was given up since the last call.
        """
        left = self._outbox.flush(timeout_s)
        lost = tuple(self._undelivered.popleft() for _ in range(len(self._undelivered)))
        if left or lost:
            raise BrokerUnavailable(
                f"{left + len(lost)} records did not reach the brokers at {self._config.kafka.bootstrap};"
                " check that they run, and publish, cancel or rate again with the same request_id",
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

    @property
    def broken(self) -> bool:
        """Whether no reply can come any more, though nobody closed it."""
        return not self.closed and self._outstanding.closed

    def close(self, timeout_s: float) -> None:
        """Flush, fail what is still awaited, and let go of thread and connections. A second call does nothing.

        Raises:
            BrokerUnavailable: as ``flush`` does.
        """
        if self.closed or self._pid != os.getpid():
            return
        try:
            self._cancel_left()
            self.flush(timeout_s)
        finally:
            self._closing.set()
            for reader in self._readers.values():
                if reader is not threading.current_thread():
                    reader.join()
            self._outstanding.close("the client was closed before the reply came")
            for feed in list(self._feeds):
                self.close_feed(feed)
            self._outbox.close()
            if self._tracing is not None:
                self._tracing.flush()
            self._at_exit.detach()

    def _invalidation(self, fields: Mapping[str, Any], issued_by: str, command_id: str) -> Control:
        now_ms = time.time_ns() // 1_000_000
        invalidation = build_invalidation(fields, tenant=self.tenant, now_ms=now_ms)
        return commands.invalidate(invalidation, command_id, issued_by=issued_by, issued_ms=now_ms)

    def _command(self, control: Control, on_delivery: OnDelivery) -> None:
        topic, key, value = self._config.kafka.topics.control, control.key.encode(), self._codec.encode(control)
        # Without waiting for room: the reader comes here too.
        self._outbox.send(topic, key, value, {}, on_delivery, wait_s=0.0)
        self._outbox.serve()

    def _send(
        self, prepared: Prepared, headers: Headers, on_delivery: OnDelivery, wait_s: float = DELIVERY_TIMEOUT_S
    ) -> None:
        key = prepared.request.request_id.encode()
        self._outbox.send(prepared.topic, key, prepared.value, headers.to_kafka(), on_delivery, wait_s)

    def _feedback_topic(self, tenant: str) -> str:
        """The tenant's own topic where the configuration has one, else the standard one."""
        own = (name for name, owner in self._config.feedback_topics.items() if owner == tenant)
        return next(own, self._config.kafka.topics.feedback)

    def check_usable(self) -> None:
        """Refuse what a closed client, or one of a parent process, cannot do."""
        if self._pid != os.getpid():
            raise RuntimeError("this client was made before the process forked; make one in each process")
        if self.closed:
            raise ClientClosed("the client is closed; make a new one")

    def refuse_on_reader(self) -> None:
        """Refuse to wait on the thread that brings what would be waited for."""
        if threading.current_thread() in self._readers.values():
            raise RuntimeError("a callback cannot wait for a reply: its thread reads them; do it on another thread")

    def _reporter(self, request_id: str, what: str) -> OnDelivery:
        """Says in the log, and to ``flush``, what did not reach the brokers."""

        def on_delivery(problem: str | None) -> None:
            if problem is not None:
                _log.error("%s %s was not published: %s", what, request_id, problem)
                self._undelivered.append(request_id)

        return on_delivery

    def _start_reader(self, topic: str, read: Callable[[Inbox], None], until_s: float) -> None:
        """Start reading a topic unless it is read. A client that only publishes never comes here.

        Pieces have a consumer and a thread of their own, in clients that stream: neither waits for the other's topic.
        """
        if topic in self._readers:
            return
        if not self._readers_lock.acquire(timeout=max(0.0, until_s - time.monotonic())):
            raise BrokerUnavailable(f"the brokers at {self._config.kafka.bootstrap} do not answer; check that they run")
        try:
            if topic not in self._readers:
                left_s = max(0.001, until_s - time.monotonic())
                inbox = Inbox(self._config, topic, self._reply_key, left_s)
                reader = threading.Thread(target=read, args=(inbox,), name="forebay-client", daemon=True)
                reader.start()
                self._readers[topic] = reader
        finally:
            self._readers_lock.release()

    def _read_replies(self, inbox: Inbox) -> None:
        try:
            while not self.closed:
                record = inbox.poll(POLL_S)
                self._outbox.serve()
                if record is not None:
                    self._take(record)
                self._cancel_left()
                self._outstanding.expire(time.monotonic())
        except Exception as error:
            _log.exception("the client cannot read replies any more")
            self._outstanding.close(f"the client broke ({error}); close it and make a new one")
        finally:
            inbox.close()

    def _cancel_left(self) -> None:
        while True:
            try:
                ticket = self._left.popleft()
            except IndexError:  # none is left, and who closes the client may have taken the last
                return
            try:
                if ticket.future.cancel():
                    self.cancel(ticket.request_id, ticket.tenant)
            except ForebayError as error:
                _log.warning("request %s goes on, it could not be cancelled: %s", ticket.request_id, error)

    def _read_chunks(self, inbox: Inbox) -> None:
        try:
            while not self.closed:
                if record := inbox.poll(POLL_S):
                    self._take_chunk(record)
        except Exception:
            _log.exception("the client cannot read pieces of answers any more: they come whole, with their replies")
        finally:
            inbox.close()

    def _take_chunk(self, record: ReplyRecord) -> None:
        on_chunk = self._on_chunk.get(_key_of(record))
        if on_chunk is None:
            return  # another client's, or behind its reply
        try:
            chunk = self._codec.decode(record.value, Chunk)
        except ForebayError as error:
            _log.warning("a piece of an answer is passed over: %s", error)
            return
        if (chunk.tenant, chunk.request_id) == _key_of(record):
            on_chunk(chunk)
        else:
            _log.warning("a piece of an answer is passed over: %s", _FOREIGN)

    def _take(self, record: ReplyRecord) -> None:
        key = _key_of(record)
        if not self._outstanding.awaits(key):
            return  # another client's, or a repeat
        try:
            reply = self._codec.decode(record.value, Reply)
        except ForebayError as error:
            self._outstanding.settle(key, error)
            return
        if (reply.tenant, reply.request_id) != key:
            _log.warning("a reply is passed over: %s", _FOREIGN)
            return
        if self._tracing is not None:
            traces.received(self._tracing, record, reply)
        self._outstanding.settle(key, reply)


def _key_of(record: ReplyRecord) -> Key:
    """Which request a record belongs to; nobody's where its headers cannot be read."""
    try:
        headers = Headers.from_kafka(record.headers)
    except ForebayError as error:
        _log.warning("a record is passed over: %s", error)
        return "", ""
    return headers.tenant or "", headers.request_id or ""


def _patience_s(request: Request) -> float:
    if request.deadline_ms is None:
        return UNTIL_ANSWERED_S
    return max(0.0, request.deadline_ms / 1000 - time.time()) + _DEADLINE_GRACE_S


def _flush_at_exit(outbox: Outbox, tracing: "Tracing | None", pid: int) -> None:
    if pid == os.getpid():  # librdkafka's threads do not live on in a forked process
        outbox.flush(_EXIT_FLUSH_S)
        if tracing is not None:
            tracing.flush()
