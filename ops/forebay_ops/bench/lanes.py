"""What a batch lane costs those who wait, and what a lane for them costs the batch."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from forebay_schemas.config import Config
from forebay_schemas.records import Lane, Request

from . import prompts
from .harness import Bench, Goal, Say, percentiles
from .process import BenchFailed, Process
from .rig import rig
from .traffic import Replies, Seen, Tasks, paced
from .worker import settings

MOST_OF_P95 = 1.15
LEAST_OF_THROUGHPUT = 0.97
"""Nothing is to be lost; so much do rounds of the same side differ."""

_INTERACTIVE = 60
_RATE_PER_S = 4.0
_BATCH = 192
_BACKLOG = 64
"""Batch tasks that are kept unanswered: several times what the engine answers at the same time."""
_MAX_TOKENS = 48
_SCHEMA = {"type": "string", "pattern": "^[a-z]{40}$"}
"""A model of random weights follows it too, and ends it within the limit."""
_JSON = json.dumps({"type": "json_schema", "json_schema": {"name": "word", "schema": _SCHEMA}})


@contextmanager
def bench(model: str, say: Say) -> Iterator[Bench]:
    """One worker, asked interactively with and without a full batch lane, and asked as much on either lane."""
    with rig(say) as it:
        config = it.installation(**settings(it, model))
        worker = it.worker(config)
        with Replies(config) as replies:
            lanes = Lanes(config, replies, worker)
            yield Bench(
                sides={
                    "batch lane empty": lanes.alone,
                    "batch lane full": lanes.beside_batch,
                    "full of JSON": lambda: lanes.beside_batch(_JSON),
                    "all interactive": lambda: lanes.throughput(Lane.INTERACTIVE),
                    "all batch": lambda: lanes.throughput(Lane.BATCH),
                },
                goals=(
                    Goal(side="batch lane full", metric="p95_ms", at_most=MOST_OF_P95),
                    Goal(side="all batch", metric="tokens_per_s", at_least=LEAST_OF_THROUGHPUT),
                ),
            )


class Lanes:
    """The load on the two lanes of one worker."""

    def __init__(self, config: Config, replies: Replies, worker: Process) -> None:
        self._config = config
        self._tasks = Tasks(config)
        self._replies = replies
        self._worker = worker

    def alone(self) -> dict[str, float]:
        """Interactive requests with nothing beside them."""
        requests = _asked(_INTERACTIVE, Lane.INTERACTIVE)
        due = paced(_RATE_PER_S, (lambda request=request: self._tasks.send([request]) for request in requests))
        seen = self._take(requests)
        return percentiles((one.seen_s - at) * 1000 for one, at in zip(seen, due, strict=True))

    def beside_batch(self, response_format: str | None = None) -> dict[str, float]:
        """The same while there is always more batch work than the engine can do at once.

        Args:
            response_format: of the batch tasks; with one they cannot rest.
        """
        with Backlog(Tasks(self._config), self._replies, self._worker, response_format) as backlog:
            before, began = backlog.wait_until_steady(), time.monotonic()
            figures = self.alone()
            return figures | {"batch_tokens_per_s": (backlog.tokens - before) / (time.monotonic() - began)}

    def throughput(self, lane: Lane) -> dict[str, float]:
        """Tokens per second where all is asked at once on one lane, and the other lane is empty."""
        requests = _asked(_BATCH, lane)
        began = time.monotonic()
        self._tasks.send(requests)
        seen = self._take(requests)
        tokens = sum(one.reply.usage.completion_tokens for one in seen)
        return {"tokens_per_s": tokens / (max(one.seen_s for one in seen) - began)}

    def _take(self, requests: list[Request]) -> list[Seen]:
        return list(self._replies.take([request.request_id for request in requests], self._worker.check).values())


class Backlog:
    """Keeps the batch lane full, in a thread of its own; on leaving it waits until the lane is empty again."""

    def __init__(self, tasks: Tasks, replies: Replies, worker: Process, response_format: str | None = None) -> None:
        self._tasks = tasks
        self._replies = replies
        self._worker = worker
        self._response_format = response_format
        self._stop = threading.Event()
        self._steady = threading.Event()
        self._failure: BenchFailed | None = None
        self._thread = threading.Thread(target=self._feed, name="backlog", daemon=True)
        self.tokens = 0
        """Generated for the batch lane so far."""

    def __enter__(self) -> "Backlog":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        if kind is None:  # else all is about to be stopped, and Ctrl-C does not wait for tasks
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def wait_until_steady(self) -> int:
        """Wait until batch work is being answered; the tokens generated so far."""
        self._steady.wait()
        return self.tokens

    def _feed(self) -> None:
        try:
            waiting: list[Request] = []
            while True:
                waiting += self._sent(_BACKLOG - len(waiting))
                done, waiting = waiting[: _BACKLOG // 8], waiting[_BACKLOG // 8 :]
                self._count(done)
                if self._stop.is_set():
                    return self._count(waiting)
        except BenchFailed as error:
            self._failure = error
        finally:
            self._steady.set()

    def _sent(self, count: int) -> list[Request]:
        requests = _asked(count, Lane.BATCH, response_format=self._response_format)
        self._tasks.send(requests)
        return requests

    def _count(self, requests: list[Request]) -> None:
        seen = self._replies.take([request.request_id for request in requests], self._worker.check)
        self.tokens += sum(one.reply.usage.completion_tokens for one in seen.values())
        self._steady.set()


_seeds = itertools.count()


def _asked(count: int, lane: Lane, **fields: Any) -> list[Request]:
    """Never the same twice: prompts would be in the prefix cache."""
    return prompts.asked(prompts.questions(count, next(_seeds)), lane=lane, max_tokens=_MAX_TOKENS, **fields)
