"""Sends the lines of a file and, where wanted, shows the replies as they come."""

import threading
import time
from collections.abc import Iterable
from typing import Any

import click
import msgspec
from forebay_client import Client, ClientClosed, ForebayError, RecordError, Reply
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from ..request_lines import LineError, numbered, parse_object, request_of
from .reply_lines import Tally, reply_line

_MAX_IN_FLIGHT = 10_000
"""Requests whose replies are awaited at once: bounds memory, far above what keeps the pipeline busy."""
_WAIT_STEP_S = 0.2


class Sending:
    """One run of ``forebay send``.

    Args:
        wait: whether to await and show the replies.
        as_json: show them as JSON.

    Attributes:
        sent: requests published.
        failed: lines that could not be sent, and requests without a reply or with an error reply.
    """

    def __init__(self, client: Client, *, wait: bool, as_json: bool) -> None:
        self.sent = 0
        self.failed = 0
        self._client = client
        self._wait = wait
        self._as_json = as_json
        self._tally = Tally()
        self._lock = threading.Lock()  # callbacks come on the client's thread, failures on any
        self._room = threading.BoundedSemaphore(_MAX_IN_FLIGHT)
        self._heard_s = time.monotonic()
        self._out = Console()
        errors = Console(stderr=True)
        bar = self._out if self._out.is_terminal else errors
        # One console for all that goes to the same terminal, so that lines do not run into the bar.
        self._err = bar if errors.is_terminal else errors
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=bar,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not bar.is_terminal,
        )
        self._task = self._progress.add_task("sending")

    def run(self, lines: Iterable[bytes], rate: float | None, patience_s: float) -> None:
        """Send all lines, then wait for the replies where they are wanted, then show the sums.

        Args:
            rate: most requests a second.
            patience_s: how long to wait for the next reply.
        """
        next_s = time.monotonic()
        try:
            with self._progress:
                for number, line in numbered(lines):
                    if rate:
                        time.sleep(max(0.0, next_s - time.monotonic()))
                        next_s = max(next_s, time.monotonic() - 1.0) + 1 / rate
                    self._send(number, line)
                    self._show_progress()
                self._client.flush()
                if self._wait:
                    self._await_replies(patience_s)
        finally:
            self._show_sums()

    def _send(self, number: int, line: bytes) -> None:
        try:
            request, traceparent = request_of(parse_object(line), self._client.tenant)
            if self._wait:
                self._send_and_await(number, request, traceparent)
            else:
                self._client.publish(request, traceparent=traceparent)
        except RecordError as error:
            self._fail(str(LineError(number, error)))
        else:
            self.sent += 1

    def _send_and_await(self, number: int, request: Any, traceparent: str | None) -> None:
        def on_reply(reply: Reply) -> None:
            self._room.release()
            with self._lock:
                self._heard_s = time.monotonic()
                self._tally.add(reply)
                self.failed += reply.error is not None
            self._show(number, reply)

        def on_failure(_: str, error: ForebayError) -> None:
            self._room.release()
            if not isinstance(error, ClientClosed):
                self._fail(f"line {number}: {error}")

        self._room.acquire()
        try:
            self._client.publish(request, traceparent=traceparent, on_reply=on_reply, on_failure=on_failure)
        except ForebayError:
            self._room.release()
            raise

    def _await_replies(self, patience_s: float) -> None:
        self._heard_s = time.monotonic()
        while missing := self._client.wait(_WAIT_STEP_S):
            self._show_progress()
            if time.monotonic() - self._heard_s > patience_s:
                self._fail(f"nothing came for {patience_s:g} s: {missing} requests have no reply", missing)
                return

    def _fail(self, message: str, count: int = 1) -> None:
        with self._lock:
            self.failed += count
        self._err.print(Text(message, style="red"), soft_wrap=True)

    def _show(self, number: int, reply: Reply) -> None:
        if self._as_json:
            self._out.print(Text(msgspec.json.encode(reply).decode()), soft_wrap=True)
        else:
            width = self._out.width if self._out.is_terminal else None
            self._out.print(reply_line(reply, f"line {number}", width), soft_wrap=True)

    def _show_progress(self) -> None:
        replied = f", {self._tally.replies} answered" if self._wait else ""
        self._progress.update(self._task, description=f"{self.sent} sent{replied}, {self.failed} failed")

    def _show_sums(self) -> None:
        click.echo(f"{self.sent} requests sent, {self.failed} failed", err=True)
        if self._tally.replies:
            self._err.print(self._tally.table())
            self._err.print(Text(self._tally.sentence()))
