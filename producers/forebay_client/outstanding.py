"""The requests that await a reply, and who waits for each: correlation, timeouts and closing without any broker."""

import math
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from forebay_schemas.errors import ForebayError, InvalidRequest
from forebay_schemas.records import Reply

from .errors import BrokerUnavailable, ClientClosed, ReplyTimeout

Key = tuple[str, str]
"""Tenant and request id: ids are unique within their tenant."""


@dataclass(slots=True)
class _Entry:
    asked_s: float
    due_s: float
    future: Future[Reply] = field(default_factory=Future)
    accepted: bool = False


class Outstanding:
    """A table of futures, one for each awaited reply. Safe to share between threads.

    Times are seconds of a monotonic clock and are passed in. Futures are settled outside the lock, on the thread
    that brings the news, so callbacks on them may use the table.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._entries: dict[Key, _Entry] = {}
        self._unsettled = 0
        self._next_due_s = math.inf
        self._closed_because: str | None = None

    def expect(self, key: Key, now_s: float, due_s: float) -> Future[Reply]:
        """Await a reply until ``due_s``. Cancelling the future forgets it.

        Raises:
            InvalidRequest: the same request is awaited already.
            ClientClosed: nothing can be awaited any more.
        """
        entry = _Entry(now_s, due_s)
        with self._lock:
            if self._closed_because:
                raise ClientClosed(self._closed_because)
            if key in self._entries:
                raise InvalidRequest("request_id", f"{key[1]!a} is awaited already", "use an id for one request")
            self._entries[key] = entry
            self._unsettled += 1
            self._next_due_s = min(self._next_due_s, due_s)
        entry.future.add_done_callback(lambda future: self._forget_cancelled(key, future))
        return entry.future

    def awaits(self, key: Key) -> bool:
        """Whether a reply to this request would be news."""
        return key in self._entries

    def accepted(self, key: Key) -> None:
        """The brokers have acknowledged the request."""
        with self._lock:
            if entry := self._entries.get(key):
                entry.accepted = True

    def settle(self, key: Key, outcome: Reply | ForebayError) -> None:
        """Give the waiter its reply, or say why none will come. The second of two outcomes is dropped."""
        with self._lock:
            entry = self._entries.pop(key, None)
        if entry:
            self._finish(entry, outcome)

    def expire(self, now_s: float) -> None:
        """Fail what is due. Cheap to call often: it looks through the table only when something can be due."""
        if now_s < self._next_due_s:
            return
        with self._lock:
            due = {key: entry for key, entry in self._entries.items() if entry.due_s <= now_s}
            for key in due:
                del self._entries[key]
            self._next_due_s = min((entry.due_s for entry in self._entries.values()), default=math.inf)
        for (_, request_id), entry in due.items():
            self._finish(entry, _overdue(request_id, entry, now_s))

    @property
    def closed(self) -> bool:
        """Whether nothing can be awaited any more."""
        return self._closed_because is not None

    def close(self, reason: str) -> None:
        """Fail everything that is awaited with ``ClientClosed``, and refuse likewise what comes later."""
        with self._lock:
            self._closed_because = self._closed_because or reason
            entries = list(self._entries.values())
            self._entries.clear()
        for entry in entries:
            self._finish(entry, ClientClosed(reason))

    def wait(self, timeout_s: float | None) -> int:
        """Wait until nothing is awaited and all callbacks have run; returns how many are left after the timeout."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._idle:
            while self._unsettled and (until_s is None or time.monotonic() < until_s):
                self._idle.wait(None if until_s is None else until_s - time.monotonic())
            return self._unsettled

    def _forget_cancelled(self, key: Key, future: Future[Reply]) -> None:
        if not future.cancelled():
            return
        with self._idle:
            entry = self._entries.get(key)
            if entry and entry.future is future:
                del self._entries[key]
                self._settled_one()

    def _finish(self, entry: _Entry, outcome: Reply | ForebayError) -> None:
        try:
            if not entry.future.set_running_or_notify_cancel():
                return  # its waiter left a moment ago
            if isinstance(outcome, Reply):
                entry.future.set_result(outcome)
            else:
                entry.future.set_exception(outcome)
        finally:
            with self._idle:
                self._settled_one()

    def _settled_one(self) -> None:
        self._unsettled -= 1
        if not self._unsettled:
            self._idle.notify_all()


def _overdue(request_id: str, entry: _Entry, now_s: float) -> ForebayError:
    waited_s = now_s - entry.asked_s
    if entry.accepted:
        return ReplyTimeout(request_id, waited_s)
    return BrokerUnavailable(
        f"the brokers have not acknowledged request {request_id} within {waited_s:.4g} s;"
        " check kafka.bootstrap and that they run",
        (request_id,),
    )
