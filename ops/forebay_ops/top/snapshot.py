"""The figures that are shown, worked out from a row of looks. Pure."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forebay_schemas.config import Config
from forebay_schemas.records import CacheStatus, Lane

from .figures import Figures, Sums, figures, quantile
from .look import Look
from .scrape import Kind, Metric

_ANSWERING = (Kind.JOB, Kind.WORKER)
"""Who writes replies, and so counts them."""

ERROR = "error"
"""What error replies stand under, beside the cache statuses of answers."""

_WRITTEN_BY = {
    CacheStatus.EXACT: Kind.JOB,
    CacheStatus.SEMANTIC: Kind.JOB,
    CacheStatus.JOINED: Kind.JOB,
    CacheStatus.MISS: Kind.WORKER,
    CacheStatus.BYPASS: Kind.WORKER,
}
"""Who writes the answers of a cache status, and counts them."""

_TROUBLES = (
    ("error reply", Metric.REPLIES, ("outcome",)),
    ("dead letter", Metric.DEAD_LETTERS, ("code",)),
    ("dead letter", Metric.WORKER_DEAD_LETTERS, ("code",)),
    ("escalation", Metric.ESCALATIONS, ("tier", "reason")),
    ("failed attempt", Metric.FAILED_ATTEMPTS, ("tier",)),
    ("standby answer", Metric.STANDBY_ANSWERS, ("tier", "model")),
    ("store error", Metric.STORE_ERRORS, ("store",)),
    ("transaction", Metric.COMMITS, ("outcome",)),
)
"""What went wrong, the metric that counts it, and the labels that tell more."""

_FINE = {("ok",), ("committed",)}
"""Outcomes among these that are no trouble."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRow:
    """One process or server, whether it answers, of a worker its generations and of the ledger what it has to write.

    Attributes:
        up_for_s: since its process began; None where nobody tells.
        inflight: tasks that are being generated.
        held: batch generations that rest while interactive ones run.
        unwritten: records that are not in the ledger yet, ends of transactions among them.
    """

    name: str
    address: str | None = None
    up: bool
    up_for_s: float | None = None
    inflight: float | None = None
    held: float | None = None
    unwritten: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """The replies of one cache status, or the error replies.

    Attributes:
        per_s: replies of both lanes a second.
        share: of all replies, error replies among them; in [0, 1].
        p50_ms: percentiles of the interactive lane's latency from request to reply.
    """

    answered_by: str
    per_s: float | None
    share: float | None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRow:
    """What one tier is given and does.

    Attributes:
        tasks_per_s: that the job hands to it.
        answers_per_s: that its workers write.
        split: its share of all generated answers, in [0, 1].
        tokens_per_s: that it generates.
        p50_ms: percentiles of the time of one generation.
        spent_per_h: US dollars an hour, for answers too that went on to another tier.
    """

    tier: str
    tasks_per_s: float | None
    answers_per_s: float | None
    split: float | None
    tokens_per_s: float | None
    p50_ms: float | None
    p95_ms: float | None
    spent_per_h: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRow:
    """What waits in one topic.

    Attributes:
        lag: records behind what its reader has committed.
        written_per_s: records, with the marks of transactions.
    """

    topic: str
    group: str
    lag: int
    written_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubleRow:
    """Something that went wrong, as often as the processes of now have counted it.

    Attributes:
        recent: times in the window.
        total: times since these processes began.
    """

    what: str
    which: str
    recent: float | None
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An installation at one moment. What nobody tells, because its part is away or was seen once only, is None.

    Attributes:
        taken: when.
        window_s: time over which rates and percentiles are taken; 0 where there was one look, which tells none.
        requests_per_s: that the job takes in, by lane.
        replies_per_s: of both lanes, error replies too.
        spent_per_h: US dollars an hour, of all replies.
        saved_per_h: what the largest tier would have cost for the same replies, less that.
    """

    taken: dt.datetime
    window_s: float
    parts: tuple[PartRow, ...]
    requests_per_s: Mapping[Lane, float | None]
    replies_per_s: float | None
    answers: tuple[AnswerRow, ...]
    tiers: tuple[TierRow, ...]
    topics: tuple[TopicRow, ...] | None
    troubles: tuple[TroubleRow, ...]
    spent_per_h: float | None
    saved_per_h: float | None


def snapshot(looks: Sequence[Look], config: Config) -> Snapshot:
    """What there is to show after these looks, which go from the oldest to the newest."""
    newest = looks[-1]
    of = {kind: figures(kind, looks) for kind in _ANSWERING}
    job, workers = of[Kind.JOB], of[Kind.WORKER]
    replies, spent, baseline = (
        _plus(*(each.rates.total(metric) for each in of.values()))
        for metric in (Metric.REPLIES, Metric.COST, Metric.BASELINE)
    )
    return Snapshot(
        taken=newest.at,
        window_s=newest.at_s - looks[0].at_s,
        parts=_parts(newest, job, config),
        requests_per_s={lane: job.rates.total(Metric.REQUESTS, lane=lane) for lane in Lane},
        replies_per_s=replies,
        answers=_answers(of, replies),
        tiers=_tiers(job, workers, list(config.tiers)),
        topics=_topics(looks),
        troubles=_troubles(of),
        spent_per_h=_times(3600, spent),
        saved_per_h=_times(3600, None if baseline is None or spent is None else baseline - spent),
    )


def _parts(look: Look, job: Figures, config: Config) -> tuple[PartRow, ...]:
    processes = []
    for target, samples in look.samples.items():
        said = Sums(samples)
        started_s = said.total(Metric.STARTED)
        worker = target.kind is Kind.WORKER
        processes.append(
            PartRow(
                name=target.kind,
                address=target.name,
                up=samples is not None,
                up_for_s=look.at.timestamp() - started_s if started_s else None,
                inflight=said.total(Metric.INFLIGHT) if worker else None,
                held=said.total(Metric.HELD) if worker else None,
                unwritten=said.total(Metric.LEDGER_LAG) if target.kind is Kind.LEDGER else None,
            )
        )
    answering = sum(part.up for part in processes if part.name == Kind.JOB)
    stores = (
        PartRow(name=store, up=reaching == answering)  # each process of the job says 1 while it reaches the store
        for (store,), reaching in sorted(job.now.by(Metric.STORE_UP, "store").items())
    )
    kafka = PartRow(name="kafka", address=config.kafka.bootstrap, up=look.backlogs is not None)
    return (*processes, kafka, *stores)


def _answers(of: Mapping[Kind, Figures], replies: float | None) -> tuple[AnswerRow, ...]:
    rows = []
    for status, kind in _WRITTEN_BY.items():
        per_s = of[kind].rates.total(Metric.REPLIES, cache_status=status, outcome="ok")
        buckets = _buckets(of[kind].grown, Metric.LATENCY, cache_status=status, lane=Lane.INTERACTIVE)
        p50, p95, p99 = (_times(1000, quantile(share, buckets)) for share in (0.5, 0.95, 0.99))
        rows.append(
            AnswerRow(answered_by=status, per_s=per_s, share=_share(per_s, replies), p50_ms=p50, p95_ms=p95, p99_ms=p99)
        )
    outcomes = [item for each in of.values() for item in each.rates.by(Metric.REPLIES, "outcome").items()]
    errors = None if replies is None else sum(rate for outcome, rate in outcomes if outcome not in _FINE)
    return (*rows, AnswerRow(answered_by=ERROR, per_s=errors, share=_share(errors, replies)))


def _tiers(job: Figures, workers: Figures, tiers: Sequence[str]) -> tuple[TierRow, ...]:
    generated = workers.rates.total(Metric.REPLIES, outcome="ok")
    rows = []
    for tier in tiers:
        answers = workers.rates.total(Metric.REPLIES, tier=tier, outcome="ok")
        buckets = _buckets(workers.grown, Metric.GENERATION, tier=tier)
        rows.append(
            TierRow(
                tier=tier,
                tasks_per_s=job.rates.total(Metric.TASKS, tier=tier),
                answers_per_s=answers,
                split=_share(answers, generated),
                tokens_per_s=workers.rates.total(Metric.TOKENS, tier=tier, kind="completion"),
                p50_ms=_times(1000, quantile(0.5, buckets)),
                p95_ms=_times(1000, quantile(0.95, buckets)),
                spent_per_h=_times(3600, workers.rates.total(Metric.GENERATION_COST, tier=tier)),
            )
        )
    return tuple(rows)


def _topics(looks: Sequence[Look]) -> tuple[TopicRow, ...] | None:
    if looks[-1].backlogs is None:
        return None
    first = next(look for look in looks if look.backlogs is not None)
    ends = {each.topic: each.end for each in first.backlogs or ()}
    seconds = looks[-1].at_s - first.at_s
    return tuple(
        TopicRow(
            topic=each.topic,
            group=each.group,
            lag=each.lag,
            written_per_s=(each.end - ends[each.topic]) / seconds if seconds and each.topic in ends else None,
        )
        for each in looks[-1].backlogs
    )


def _troubles(of: Mapping[Kind, Figures]) -> tuple[TroubleRow, ...]:
    totals: defaultdict[tuple[str, str], float] = defaultdict(float)
    recent: defaultdict[tuple[str, str], list[float | None]] = defaultdict(list)
    for what, metric, labels in _TROUBLES:
        for each in of.values():
            grown = each.grown.by(metric, *labels)
            for values, total in each.now.by(metric, *labels).items():
                if total and values not in _FINE:
                    totals[what, ", ".join(values)] += total
                    recent[what, ", ".join(values)].append(grown.get(values))
    return tuple(
        TroubleRow(what=what, which=which, recent=_plus(*recent[what, which]), total=total)
        for (what, which), total in totals.items()
    )


def _buckets(sums: Sums, metric: Metric, **labels: str) -> dict[float, float]:
    return {float(bound): count for (bound,), count in sums.by(metric, "le", **labels).items()}


def _plus(*values: float | None) -> float | None:
    return None if None in values else sum(value for value in values if value is not None)


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
