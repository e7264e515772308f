"""What an audit has found, as a record that is shown and written, with what has to be known to read it right."""

from datetime import UTC, datetime

import msgspec
from forebay_schemas.config import Config

from .accounting import EXACT, NEAR, Audit, Prefixes, Side
from .clusters import LEFT_ALONE_SHARE, Cluster, clusters_of
from .reading import LogReader

_MONTH_S = 30 * 86_400
_LEAST_SPAN_S = 3_600
"""A shorter log says nothing about a month."""
_SURE_SPAN_S = 7 * 86_400
"""A week has its quiet days in it."""


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What was read.

    Attributes:
        calls: that are accounted for.
        failed: calls that ended in an error; left out.
        unreadable: lines that could not be used; left out.
        first, last: the times of the earliest and the latest call; None where no call has one.
    """

    lines: int
    calls: int
    failed: int
    unreadable: int
    problems: list[str]
    timed: int
    first: datetime | None
    last: datetime | None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that would be answered in one way.

    Attributes:
        way: ``exact repeat``, ``near repeat``, or the tier that generates.
        share: of all calls, in [0, 1].
        today: what they cost now, US dollars.
        then: what they would.
    """

    way: str
    calls: int
    share: float
    today: float
    then: float


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run, US dollars: ``today`` less the three savings is ``then``.

    Attributes:
        saved_exact, saved_near: what the calls that repeat cost today.
        saved_routing: what the others cost today, less what their tiers would; below zero where these cost more.
        month_today, month_then: for 30 days at the pace of the log; None where it tells no pace.
    """

    parts: list[Part]
    today: float
    saved_exact: float
    saved_near: float
    saved_routing: float
    then: float
    saved_share: float
    month_today: float | None
    month_then: float | None


class ModelSums(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one model of the log."""

    model: str
    calls: int
    cost: float


class PrefixShare(msgspec.Struct, frozen=True, kw_only=True):
    """Prompt tokens, and the share of them in static turns that an earlier prompt had too."""

    prompt_tokens: int
    repeated_tokens: int
    share: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole audit.

    Attributes:
        exact_only: with the exact cache and the tiers.
        with_near: with the semantic cache beside them; an upper bound.
        reuse: calls by what may be done with them (``forebay_jobs.reuse.eligibility.Reuse``).
        thresholds: least cosine of a near repeat, by configured category; `default` is that of all others.
        looked_up: calls that were compared by meaning.
        questions: distinct questions that were embedded.
        not_embedded: calls whose question came when no more were embedded.
        prefix, prefix_generated: of all calls, and of those that would be generated beside the semantic cache.
        clusters: the costliest first.
        left_alone: clusters below 2 % of the bill that are not among the top ones.
        notes: what has to be known to read the figures right.
    """

    log: Log
    models: list[ModelSums]
    exact_only: Bill
    with_near: Bill
    reuse: dict[str, int]
    thresholds: dict[str, float]
    looked_up: int
    questions: int
    not_embedded: int
    prefix: PrefixShare
    prefix_generated: PrefixShare
    clusters: list[Cluster]
    left_alone: int
    left_alone_share: float
    notes: list[str]


def report_of(audit: Audit, reader: LogReader) -> Report:
    """The sums so far; takes some seconds where there are many questions to cluster."""
    span_s = audit.last_s - audit.first_s if audit.timed == audit.calls and audit.calls else 0.0
    months = _MONTH_S / span_s if span_s >= _LEAST_SPAN_S else None
    clusters = clusters_of(audit.questions, audit.today)
    alone = [cluster for cluster in clusters if cluster.share < LEFT_ALONE_SHARE and not cluster.top]
    return Report(
        log=_log(audit, reader),
        models=sorted(
            (ModelSums(model=name, calls=sums.calls, cost=sums.today) for name, sums in audit.models.items()),
            key=lambda model: -model.cost,
        ),
        exact_only=_bill(audit.exact_only, audit, months),
        with_near=_bill(audit.with_near, audit, months),
        reuse={reuse.value: count for reuse, count in audit.reuse.most_common()},
        thresholds={name: audit.config.category(name).similarity for name in sorted(audit.categories)},
        looked_up=audit.looked_up,
        questions=len(audit.questions),
        not_embedded=audit.questions.beyond,
        prefix=_prefix(audit.prefixes),
        prefix_generated=_prefix(audit.prefixes_generated),
        clusters=clusters,
        left_alone=len(alone),
        left_alone_share=sum(cluster.share for cluster in alone),
        notes=_notes(audit, span_s),
    )


def _log(audit: Audit, reader: LogReader) -> Log:
    return Log(
        lines=reader.lines,
        calls=audit.calls,
        failed=reader.failed,
        unreadable=reader.unreadable,
        problems=reader.problems,
        timed=audit.timed,
        first=datetime.fromtimestamp(audit.first_s, UTC) if audit.timed else None,
        last=datetime.fromtimestamp(audit.last_s, UTC) if audit.timed else None,
    )


def _bill(side: Side, audit: Audit, months: float | None) -> Bill:
    ways = [EXACT, NEAR, *audit.config.tiers]
    parts = [
        Part(way=way, calls=sums.calls, share=sums.calls / max(1, audit.calls), today=sums.today, then=sums.then)
        for way in ways
        if (sums := side.sums.get(way))
    ]
    saved = {part.way: part.today - part.then for part in parts}
    then = sum(part.then for part in parts)
    return Bill(
        parts=parts,
        today=audit.today,
        saved_exact=saved.get(EXACT, 0.0),
        saved_near=saved.get(NEAR, 0.0),
        saved_routing=sum(saved.get(tier, 0.0) for tier in audit.config.tiers),
        then=then,
        saved_share=1 - then / audit.today if audit.today else 0.0,
        month_today=audit.today * months if months else None,
        month_then=then * months if months else None,
    )


def _prefix(prefixes: Prefixes) -> PrefixShare:
    tokens = prefixes.prompt_tokens
    return PrefixShare(
        prompt_tokens=round(tokens),
        repeated_tokens=round(prefixes.repeated_tokens),
        share=prefixes.repeated_tokens / tokens if tokens else 0.0,
    )


def _notes(audit: Audit, span_s: float) -> list[str]:
    notes = [
        f"the tiers' prices, in dollars per 1,000 tokens of prompt and answer: {_prices(audit.config)}",
        "near repeats are an upper bound: how many of them ask for the same answer, nobody has judged",
        "smaller tiers are an estimate: that their answers are as good has to be measured on your own requests",
    ]
    questions = audit.questions
    if not questions.most:
        notes.append("nothing was embedded, so near repeats and clusters were not looked for")
    elif questions.beyond:
        notes.append(
            f"the first {len(questions):,} distinct questions were embedded; {questions.beyond:,} calls asked others,"
            " and count as no near repeat and for no cluster"
        )
    if audit.timed < audit.calls:
        notes.append(
            f"{audit.calls - audit.timed:,} calls have no time: for them no answer is too old,"
            " and no month is projected"
        )
    elif span_s < _LEAST_SPAN_S:
        notes.append("the log spans less than an hour, too little to project a month")
    elif span_s < _SURE_SPAN_S:
        notes.append(f"the month is projected from {span_s / 86_400:.1f} days; a week would have its quiet days in it")
    if audit.forgotten:
        notes.append(f"{audit.forgotten:,} digests and questions found no room, so some repeats may have been missed")
    return notes


def _prices(config: Config) -> str:
    prices = {tier: config.price(tier) for tier in config.tiers}
    return ", ".join(f"{tier} {price.input_per_1k:g}/{price.output_per_1k:g}" for tier, price in prices.items())
