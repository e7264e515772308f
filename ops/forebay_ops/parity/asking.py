"""Asks many requests through the public client, so many at once, and waits for all of them."""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from forebay_client import BrokerUnavailable, Client, ForebayError, Reply
from forebay_schemas.errors import RecordError
from forebay_schemas.records import Request

_STEP_S = 0.2
"""How late Ctrl-C, or the end of patience, may be noticed."""

Told = Callable[[int], None]
"""Is called several times a second with how many are settled; what it raises ends the asking."""


class Silence(ForebayError):
    """Nothing came for too long."""


class Asking:
    """One client's way of asking.

    Args:
        in_flight: most requests that are awaited at once.
        patience_s: how long to wait for the next reply.

    Attributes:
        ended_by: why the asking ended early; None while it has not.
    """

    def __init__(self, client: Client, in_flight: int, patience_s: float) -> None:
        self._client = client
        self._in_flight = in_flight
        self._patience_s = patience_s
        self._news = threading.Condition()  # replies come on the client's thread
        self._awaited: dict[str, str] = {}
        self._settled = 0
        self._heard_s = time.monotonic()
        self.ended_by: Silence | BrokerUnavailable | None = None

    def all(self, requests: Iterable[Request], told: Told) -> dict[str, Reply]:
        """The answers by request id; one that got an error, or none, has none.

        It ends early, and nothing more is asked later, where no reply came for ``patience_s``, and where nothing can be
        sent: see ``ended_by``. What came was paid, and is returned; what is still awaited is taken back.
        """
        if self.ended_by is not None:
            return {}
        answers: dict[str, Reply] = {}
        self._settled = 0

        def on_reply(reply: Reply) -> None:
            if reply.error is None:
                answers[reply.request_id] = reply
            self._settle(reply.request_id)

        def on_failure(request_id: str, _: ForebayError) -> None:
            self._settle(request_id)

        try:
            for request in requests:
                self._wait(lambda: len(self._awaited) < self._in_flight, told)
                with self._news:
                    if not self._awaited:
                        self._heard_s = time.monotonic()
                    self._awaited[request.request_id] = request.tenant
                try:
                    self._client.publish(request, on_reply=on_reply, on_failure=on_failure)
                except RecordError:
                    self._settle(request.request_id)
            self._wait(lambda: not self._awaited, told)
        except (Silence, BrokerUnavailable) as error:
            self.ended_by = error
        finally:
            self._take_back()
        return answers

    def _settle(self, request_id: str) -> None:
        with self._news:
            if self._awaited.pop(request_id, None) is not None:
                self._settled += 1
                self._heard_s = time.monotonic()
                self._news.notify_all()

    def _wait(self, condition: Callable[[], bool], told: Told) -> None:
        while True:
            told(self._settled)
            with self._news:
                if condition():
                    return
                if time.monotonic() - self._heard_s > self._patience_s:
                    raise Silence(
                        f"nothing came for {self._patience_s:g} s; see with `forebay status` that job and workers run"
                    )
                self._news.wait(_STEP_S)

    def _take_back(self) -> None:
        """Nobody waits any more, and its generation would cost."""
        with self._news:
            left, self._awaited = self._awaited, {}
        for request_id, tenant in left.items():
            with suppress(BrokerUnavailable):
                self._client.cancel(request_id, tenant=tenant)
