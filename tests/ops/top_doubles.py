"""Parts to look at: the metrics of a job, of workers and of a ledger, counted up by made-up traffic."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from forebay_ops.top.backlog import Backlog
from forebay_ops.top.look import Look
from forebay_ops.top.scrape import Kind, Target, parse
from forebay_schemas.metrics import JobMetrics, LedgerMetrics, WorkerMetrics
from forebay_schemas.records import CacheStatus, Latency
from prometheus_client import CollectorRegistry, generate_latest

from tests.builders import make_reply

BEGAN = dt.datetime(2025, 10, 13, 12, tzinfo=dt.UTC)


class Job(JobMetrics):
    """One process of the job."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        super().__init__(self.registry)


class Worker(WorkerMetrics):
    """One worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        super().__init__(self.registry)


class Ledger(LedgerMetrics):
    """The ledger."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        super().__init__(self.registry)


def answer(part: Job | Worker, times: int, status: CacheStatus, total_ms: float = 100.0, **fields: Any) -> None:
    """Let a part write so many replies of one kind."""
    for _ in range(times):
        part.replies.count(make_reply(cache_status=status, latency=Latency(total_ms=total_ms), **fields))


def said(part: Job | Worker | Ledger) -> str:
    """What a scrape of a part gives now."""
    return generate_latest(part.registry).decode()


def look(
    at_s: float,
    job: str | None,
    *workers: str | None,
    backlogs: Sequence[Backlog] | None = (),
    ledger: str | None = "",
) -> Look:
    """A look at one process of the job, at workers and at the ledger, with what each said; None is away."""
    texts = {Target(Kind.JOB, "job:9101", ("10.0.0.1", 9101)): job}
    for number, text in enumerate(workers, 1):
        texts[Target(Kind.WORKER, f"worker-{number}:9102", ("10.0.1.1", 9101 + number))] = text
    texts[Target(Kind.LEDGER, "ledger:9103", ("10.0.2.1", 9103))] = ledger
    samples = {target: None if text is None else parse(text) for target, text in texts.items()}
    return Look(BEGAN + dt.timedelta(seconds=at_s), at_s, samples, None if backlogs is None else tuple(backlogs))
