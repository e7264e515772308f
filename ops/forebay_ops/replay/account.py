"""What a replay comes to: the report of its replies, and what only a replay knows (intended times, labels, counts)."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from forebay_schemas import prices
from forebay_schemas.config import Config
from forebay_schemas.records import REUSED, Reply, Usage

from ..figures import percentile, tier_of
from ..ledger.columns import SCHEMA, Rows
from ..ledger.tables import Entry, batch_of, by_day
from ..reporting.query import Report, query
from ..traces.arrivals import Arrival
from .player import Outcome, Played
from .run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How much of a trace can be reused, by its texts and labels: counts of requests.

    Attributes:
        first: the first of their label.
        verbatim: text and label came before.
        reworded: the label came before, in other words.
    """

    first: int
    verbatim: int
    reworded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """Answers that were reused in one way, judged by the labels of who asked and whose answer it is.

    Attributes:
        wrong: the labels differ.
        unknown: one of the labels is not known.
    """

    kind: str
    answers: int
    wrong: int
    unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Requests without an answer, for one reason.

    Attributes:
        kind: the code of an error reply; the name of the client's exception where no reply came.
        example: what one of them says.
    """

    kind: str
    requests: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AtTraceLength:
    """US dollars, had every prompt and answer had the tokens that the trace counted.

    Attributes:
        requests: answered ones of which the trace tells both counts.
    """

    requests: int
    cost: float
    baseline_cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A replay in figures.

    Attributes:
        run: its name, which is in its request ids.
        began: UTC.
        requests: of the trace.
        unsent: those whose moment did not come.
        duration_s: from the first moment until the last reply.
        asked_per_s: requests a second, as they were to be sent.
        late_p50_ms, late_p99_ms, late_most_ms: from when requests were to be sent until they were.
        unanswered: requests without a reply.
        failures: why requests have no answer, the most frequent reason first.
        synthetic: answers that no model wrote.
        report: of the replies, as of a ledger; ``total_ms`` counts from when a request was to be sent. None where
            there is none.
        asked: None without labels.
        reuse: exact, semantic, joined; empty without labels.
        at_trace_length: None where the trace tells no tokens.
    """

    run: str
    began: dt.datetime
    requests: int
    unsent: int
    duration_s: float
    asked_per_s: float | None
    late_p50_ms: float | None
    late_p99_ms: float | None
    late_most_ms: float | None
    unanswered: int
    failures: list[Failure]
    synthetic: int
    report: Report | None
    asked: Asked | None
    reuse: list[Reuse]
    at_trace_length: AtTraceLength | None

    @property
    def sent(self) -> int:
        """Requests whose moment came."""
        return self.requests - self.unsent

    @property
    def wrong(self) -> int:
        """Reused answers whose labels differ."""
        return sum(kind.wrong for kind in self.reuse)


def account(run: Run, played: Played, config: Config) -> Account:
    """Add up a replay.

    Args:
        config: of the installation that was replayed to: its prices and tiers are those of the replies.
    """
    outcomes = played.outcomes
    late = [each.late_ms for each in outcomes]
    replies = [each.reply for each in outcomes if each.reply]
    labelled = any(each.arrival.label is not None for each in outcomes)
    return Account(
        run=run.name,
        began=played.began,
        requests=len(outcomes) + played.unsent,
        unsent=played.unsent,
        duration_s=played.duration_s,
        asked_per_s=_rate([each.arrival for each in outcomes]),
        late_p50_ms=percentile(late, 50),
        late_p99_ms=percentile(late, 99),
        late_most_ms=percentile(late, 100),
        unanswered=sum(each.reply is None for each in outcomes),
        failures=_failures(outcomes),
        synthetic=sum(reply.synthetic for reply in replies),
        report=_report(outcomes, config) if replies else None,
        asked=_asked(outcomes) if labelled else None,
        reuse=_reuse(run, outcomes) if labelled else [],
        at_trace_length=_at_trace_length(outcomes, config),
    )


def _rate(arrivals: Sequence[Arrival]) -> float | None:
    lasting_s = arrivals[-1].at_ms / 1000 if arrivals else 0.0
    return (len(arrivals) - 1) / lasting_s if lasting_s else None


def _report(outcomes: Iterable[Outcome], config: Config) -> Report:
    """The report of a ledger that holds these replies."""
    rows = Rows(config)
    topic = config.kafka.topics.replies
    filled = [
        rows.row(Entry(topic, 0, each.number, each.reply), each.reply, repeat=False) | {"total_ms": each.latency_ms}
        for each in outcomes
        if each.reply
    ]
    with TemporaryDirectory(prefix="forebay-replay-") as folder:
        for day, table in by_day(pa.Table.from_batches([batch_of(filled, SCHEMA)])):
            place = Path(folder) / f"day={day}"
            place.mkdir()
            pq.write_table(table, place / "replies.parquet")
        return query(Path(folder), now=dt.datetime.now(dt.UTC).replace(tzinfo=None))


def _failures(outcomes: Iterable[Outcome]) -> list[Failure]:
    said: dict[str, list[str]] = {}
    for each in outcomes:
        if each.reply is None:
            said.setdefault(type(each.error).__name__, []).append(str(each.error))
        elif error := each.reply.error:
            said.setdefault(error.code, []).append(error.message)
    failures = [Failure(kind=kind, requests=len(messages), example=messages[0]) for kind, messages in said.items()]
    return sorted(failures, key=lambda failure: -failure.requests)


def _asked(outcomes: Iterable[Outcome]) -> Asked:
    labels, texts, counts = set[str](), set[str](), Counter[str]()
    for arrival in (each.arrival for each in outcomes):
        if arrival.label is not None:
            text = msgspec.json.encode([arrival.label, arrival.fields]).decode()
            counts["verbatim" if text in texts else "reworded" if arrival.label in labels else "first"] += 1
            labels.add(arrival.label)
            texts.add(text)
    return Asked(first=counts["first"], verbatim=counts["verbatim"], reworded=counts["reworded"])


def _reuse(run: Run, outcomes: Sequence[Outcome]) -> list[Reuse]:
    labels = {each.number: each.arrival.label for each in outcomes}
    counts = Counter[tuple[str, bool | None]]()
    for each in outcomes:
        if (reply := each.reply) and reply.error is None and reply.cache_status in REUSED:
            matched = labels.get(run.number(reply.matched_request_id) or 0)
            known = matched is not None and each.arrival.label is not None
            counts[reply.cache_status, matched != each.arrival.label if known else None] += 1
    return [
        Reuse(
            kind=kind.value,
            answers=sum(counts[kind, wrong] for wrong in (True, False, None)),
            wrong=counts[kind, True],
            unknown=counts[kind, None],
        )
        for kind in REUSED
    ]


def _at_trace_length(outcomes: Iterable[Outcome], config: Config) -> AtTraceLength | None:
    requests, cost, baseline_cost = 0, 0.0, 0.0
    for reply, usage in _counted(outcomes):
        requests += 1
        baseline_cost += prices.baseline_cost(usage, config)
        if reply.cache_status not in REUSED:
            generations = [(hop.tier, hop.model_id) for hop in reply.path] + [(tier_of(reply), reply.model_id)]
            for tier, model in generations:
                if tier in config.tiers and model in config.models:
                    cost += prices.cost(usage, config.generation_price(tier, model), reply.lane)
    return AtTraceLength(requests=requests, cost=cost, baseline_cost=baseline_cost) if requests else None


def _counted(outcomes: Iterable[Outcome]) -> Iterator[tuple[Reply, Usage]]:
    """Answers, with the tokens that the trace counted."""
    for each in outcomes:
        prompt, completion = each.arrival.prompt_tokens, each.arrival.completion_tokens
        if each.reply and each.reply.error is None and prompt is not None and completion is not None:
            yield each.reply, Usage(prompt_tokens=prompt, completion_tokens=completion)
