"""The client for ordinary, threaded code."""

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Self, Unpack

from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import Reply

from .core import Core, Ticket
from .errors import raise_for_error
from .feed import ReplyFeed
from .feedback import FeedbackFields
from .invalidation import Invalidated, InvalidationFields
from .requests import Question, RequestFields
from .streams import Arrival, Stream

OnReply = Callable[[Reply], object]
OnFailure = Callable[[str, ForebayError], object]
FEED_POLL_S = 0.2
"""How late a closed client or Ctrl-C ends the iteration of replies."""


class Client:
    """Publishes requests and gets replies. One is enough for a process: all its threads can share it.

    Use it as a context manager, or call ``close``. Nothing is read from Kafka until a reply is asked for, and nothing
    can be changed after construction. Make it after forking, not before.

    Args:
        tenant: whose requests these are, unless a request says otherwise.
        config: absent: the file that ``FOREBAY_CONFIG`` names, and the environment.
        reply_topic: where replies are sent and read; one of ``kafka.reply_topics``. Absent: the standard topic.

    Raises:
        ConfigError: a setting cannot work.
    """

    __slots__ = ("_core",)

    def __init__(
        self, tenant: str | None = None, *, config: Config | None = None, reply_topic: str | None = None
    ) -> None:
        self._core = Core(config or load_config(), tenant, reply_topic)

    @property
    def tenant(self) -> str | None:
        """Whose requests these are, unless a request says otherwise."""
        return self._core.tenant

    def publish(
        self,
        question: Question | None = None,
        *,
        on_reply: OnReply | None = None,
        on_failure: OnFailure | None = None,
        **fields: Unpack[RequestFields],
    ) -> str:
        """Publish a request and go on; returns its id at once, before the brokers have it.

        Args:
            question: the user's question, the turns of a conversation, or a request; absent with ``messages``.
            on_reply: called once with the reply, an error reply included, on the thread that reads replies: it must
                be quick, and cannot wait for another reply.
            on_failure: called instead with the request's id and a ``BrokerUnavailable``, ``ReplyTimeout`` (no reply
                until well after the deadline, or within 24 hours without one) or ``ClientClosed``.
            fields: more about the request.

        Without either callback no reply is awaited: whoever consumes ``replies`` gets it, and what could not be
        delivered is told by ``flush`` and ``close``.

        Raises:
            InvalidRequest, RequestTooLarge: it was not published; the message says why.
            BrokerUnavailable: the queue is full, or replies cannot be read.
        """
        if on_reply is None and on_failure is None:
            return self._core.publish(question, fields)
        ticket = self._core.submit(question, fields)
        call_back(ticket, on_reply, on_failure)
        return ticket.request_id

    def ask(
        self, question: Question | None = None, *, timeout_s: float = 30.0, **fields: Unpack[RequestFields]
    ) -> Reply:
        """Publish a request and wait for its answer.

        Args:
            question: as for ``publish``.
            timeout_s: how long to wait. It is also the request's deadline unless ``fields`` has one, so that
                nothing is spent on an answer that no one waits for.
            fields: more about the request.

        Raises:
            InvalidRequest, RequestTooLarge: it was not published; the message says why.
            BrokerUnavailable: the brokers did not take it.
            ReplyTimeout: nothing came in time.
            DeadlineExceeded: the pipeline says that the deadline passed. Like ReplyTimeout it is a TimeoutError.
            RequestCancelled: it was cancelled, from elsewhere. Ctrl-C cancels it too.
            RequestFailed: the pipeline says that something else went wrong.
            ClientClosed: another thread closed the client.
        """
        return raise_for_error(self._core.result(self._core.submit(question, fields, timeout_s)))

    def stream(
        self, question: Question | None = None, *, timeout_s: float = 30.0, **fields: Unpack[RequestFields]
    ) -> Stream:
        """Publish a request and iterate over its answer while it is written.

        An answer from a cache, or of a model that does not stream, comes as one piece. A stream that ends without an
        error has given the whole text of its reply, which is then at ``reply``.

        Args:
            question, fields: as for ``publish``.
            timeout_s: how long to wait for the whole answer; the deadline, as for ``ask``.

        Raises:
            InvalidRequest, RequestTooLarge: it was not published; the message says why.
            BrokerUnavailable: replies cannot be read.
        """
        arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        ticket = self._core.submit(question, {**fields, "stream": True}, timeout_s, on_chunk=arrivals.put)
        return Stream(self._core, ticket, arrivals)

    def cancel(self, request_id: str, *, tenant: str | None = None) -> None:
        """Take a request back, from this client or from another; returns at once.

        If it waits or is being generated, it ends in an error reply with the code ``cancelled``, and nothing more is
        spent on it unless others wait for the same answer. If this comes too late, it ends in its answer; an id that
        is not known, or answered, changes nothing. That the brokers did not take it, ``flush`` and ``close`` tell.

        Args:
            tenant: whose request it is; absent: the client's.

        Raises:
            InvalidRequest: the request is not named.
            BrokerUnavailable: the queue is full.
        """
        self._core.cancel(request_id, tenant)

    def feedback(self, request_id: str, verdict: str, **fields: Unpack[FeedbackFields]) -> None:
        """Say what was thought of the answer to a request, from this client or from another; returns at once.

        Reports show it by category, and a user who changes their mind calls it again. That the brokers did not take it,
        ``flush`` and ``close`` tell.

        Args:
            request_id: of the request, which its reply has too. That there is such a request of the tenant is not
                checked: feedback on another is counted nowhere.
            verdict: ``up`` or ``down``.
            fields: more about it.

        Raises:
            InvalidRequest: it was not published; the message says why.
            BrokerUnavailable: the queue is full.
        """
        self._core.feedback(request_id, verdict, fields)

    def invalidate(
        self, *, timeout_s: float = 30.0, issued_by: str = "client", **fields: Unpack[InvalidationFields]
    ) -> Invalidated:
        """Let answers hold no longer, in both caches and of generations in flight; returns when it is so everywhere.

        No request that is sent from then on gets an answer of before, or shares a generation begun before.

        Args:
            timeout_s: how long to wait for the job to say so.
            issued_by: who says so, for the audit trail on the topic of events.
            fields: which answers: ``client.invalidate(source="pricing")``.

        Raises:
            InvalidRequest: it is not clear which; nothing was published.
            BrokerUnavailable: the brokers did not take it, or events cannot be read.
            InvalidationPending: the job said nothing in time; it is queued, and will be applied.
        """
        return self._core.invalidate(fields, issued_by, timeout_s)

    def publish_invalidation(self, *, issued_by: str = "client", **fields: Unpack[InvalidationFields]) -> str:
        """As ``invalidate``, without waiting; returns the id under which the topic of events will acknowledge it.

        That the brokers did not take it, ``flush`` and ``close`` tell.

        Raises:
            InvalidRequest: it is not clear which; nothing was published.
            BrokerUnavailable: the queue is full.
        """
        return self._core.publish_invalidation(fields, issued_by)

    def replies(self, group: str) -> Iterator[Reply]:
        """Consume the whole reply topic as a consumer group: every tenant's replies, repeats removed.

        The members of a group share the topic; a new group begins with the oldest reply there is. A reply counts as
        handled when the loop asks for the next one. Progress is committed every second, so after a crash the replies
        of the last second come again. Repeats are known by tenant and request id; how far back, ``ReplyFeed`` says.
        The loop ends when the client is closed, and a loop left with ``break`` leaves the group.

        Raises:
            BrokerUnavailable: the brokers do not answer, or the topic does not exist.
        """
        return self._iterate(self._core.open_feed(group, from_beginning=True))

    def watch(self, *, from_beginning: bool = False) -> Iterator[Reply]:
        """Look on: every reply from now on (or all there are), repeats removed, whoever else consumes them.

        Raises:
            BrokerUnavailable: the brokers do not answer, or the topic does not exist.
        """
        return self._iterate(self._core.open_feed(None, from_beginning))

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the replies of all requests published with a callback; returns how many are still missing."""
        return self._core.wait(timeout_s)

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until the brokers have everything that was published.

        Raises:
            BrokerUnavailable: they did not take it all since the last call; it lists the requests given up.
        """
        self._core.flush(timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Flush for so long, fail what is still awaited with ``ClientClosed``, and let go of all connections.

        Raises:
            BrokerUnavailable: as ``flush`` does. The client is closed all the same.
        """
        self._core.close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.close()
        except ForebayError:
            if error is None:  # what went wrong first is what its reader needs
                raise

    def _iterate(self, feed: ReplyFeed) -> Iterator[Reply]:
        try:
            while not self._core.closed:
                reply = feed.poll(FEED_POLL_S)
                if reply is not None:
                    yield reply
        finally:
            self._core.close_feed(feed)


def call_back(ticket: Ticket, on_reply: OnReply | None, on_failure: OnFailure | None) -> None:
    """Have the one that fits called when the ticket's reply has come or cannot come any more."""

    def settled(future: Future[Reply]) -> None:
        error = future.exception()
        if error is None:
            if on_reply:
                on_reply(future.result())
        elif on_failure and isinstance(error, ForebayError):
            on_failure(ticket.request_id, error)

    ticket.future.add_done_callback(settled)
