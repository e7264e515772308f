"""What `forebay top` works out from two looks and shows: rates, percentiles, and what nobody tells."""

import io
import math

import pytest
from forebay_ops.cli.top_tables import overview
from forebay_ops.top.backlog import Backlog
from forebay_ops.top.figures import quantile
from forebay_ops.top.look import Look, within
from forebay_ops.top.scrape import Metric
from forebay_ops.top.snapshot import AnswerRow, Snapshot, TroubleRow, snapshot
from forebay_schemas.config import load_config
from forebay_schemas.errors import ErrorCode
from forebay_schemas.metrics import fqnames
from forebay_schemas.records import CacheStatus, Lane, ReplyError
from rich.console import Console

from .top_doubles import Job, Ledger, Worker, answer, look, said

CONFIG = load_config()
FAILED = ReplyError(code=ErrorCode.INTERNAL, message="why", retryable=True)


def traffic() -> tuple[Look, Look]:
    """Two looks, ten seconds apart, at a job and two workers with a past, of which the looks may tell nothing."""
    job, workers = Job(), (Worker(), Worker())
    job.store_up.labels("redis").set(1)
    for part in (job, *workers):
        answer(part, 7, CacheStatus.EXACT if part is job else CacheStatus.MISS, 30_000.0, cost=5.0, tier="small")
    job.dead_letters.labels("malformed").inc(2)
    first = look(100.0, said(job), *map(said, workers), backlogs=[Backlog("llm.requests", "llm-job", 500, 40)])

    job.requests.labels("interactive").inc(60)
    job.tasks.labels("small", "interactive", "complexity").inc(30)
    answer(job, 20, CacheStatus.EXACT, 4.0, baseline_cost=0.5)
    answer(job, 10, CacheStatus.SEMANTIC, 25.0, lane=Lane.BATCH, baseline_cost=0.5)
    answer(job, 5, CacheStatus.BYPASS, error=FAILED)
    for part, times in zip(workers, (10, 5), strict=True):
        answer(part, times, CacheStatus.MISS, 600.0, tier="small", cost=0.25, baseline_cost=1.0)
        part.generation_seconds.labels("small").observe(0.6)
        part.tokens.labels("small", "completion").inc(100)
        part.cost.labels("small", "interactive").inc(times * 0.25)
        part.inflight.set(3)
    workers[0].held.set(2)
    workers[1].escalations.labels("small", "confidence").inc()
    second = look(110.0, said(job), *map(said, workers), backlogs=[Backlog("llm.requests", "llm-job", 560, 10)])
    return first, second


def shown(*looks: Look) -> Snapshot:
    return snapshot(looks, CONFIG)


def answers(found: Snapshot) -> dict[str, AnswerRow]:
    return {row.answered_by: row for row in found.answers}


def test_every_metric_that_is_asked_for_exists() -> None:
    assert {*Metric} - {Metric.STARTED} <= fqnames()


# --- what grew


def test_rates_are_what_all_parts_counted_between_the_looks() -> None:
    found = shown(*traffic())
    assert found.window_s == 10.0
    assert found.requests_per_s == {"interactive": 6.0, "batch": 0.0}
    assert found.replies_per_s == 5.0
    per_s = {row.answered_by: row.per_s for row in found.answers}
    assert per_s == {"exact": 2.0, "semantic": 1.0, "joined": 0.0, "miss": 1.5, "bypass": 0.0, "error": 0.5}
    assert [row.share for row in found.answers] == [0.4, 0.2, 0.0, 0.3, 0.0, 0.1]
    small, medium, _ = found.tiers
    assert (small.tasks_per_s, small.answers_per_s, small.split, small.tokens_per_s) == (3.0, 1.5, 1.0, 20.0)
    assert (medium.answers_per_s, medium.split, medium.p50_ms) == (0.0, 0.0, None)


def test_dollars_are_those_of_an_hour_at_this_rate() -> None:
    found = shown(*traffic())
    spent, baseline = 15 * 0.25, 30 * 0.5 + 15 * 1.0
    assert found.spent_per_h == pytest.approx(360 * spent)
    assert found.saved_per_h == pytest.approx(360 * (baseline - spent))
    assert found.tiers[0].spent_per_h == pytest.approx(360 * spent)


def test_percentiles_are_those_of_the_interactive_lane_in_the_window() -> None:
    rows = answers(shown(*traffic()))
    assert 2 < (rows["exact"].p50_ms or 0) <= 5  # the bucket of 4 ms; the 30 s of before the first look are not there
    assert 500 < (rows["miss"].p50_ms or 0) < (rows["miss"].p99_ms or 0) <= 1000
    assert rows["semantic"].p50_ms is None  # of the batch lane alone


def test_gauges_are_of_now() -> None:
    first, second = traffic()
    topics = shown(first, second).topics or ()
    assert [(row.topic, row.lag, row.written_per_s) for row in topics] == [("llm.requests", 10, 6.0)]
    workers = [part for part in shown(first, second).parts if part.name == "worker"]
    assert [(part.inflight, part.held) for part in workers] == [(3, 2), (3, 0)]


def test_the_ledger_tells_what_it_has_not_written_yet() -> None:
    ledger = Ledger()
    ledger.lag.set(1_234)
    found = shown(look(0.0, said(Job()), said(Worker()), ledger=said(ledger)))
    assert {part.name: part.unwritten for part in found.parts if part.unwritten is not None} == {"ledger": 1_234}
    assert "ledger ledger:9103 up 1,234" in " ".join(text(found, 120).split())


def test_while_the_ledger_is_away_the_others_figures_stand() -> None:
    worker, job = Worker(), said(Job())
    before = said(worker)
    answer(worker, 8, CacheStatus.MISS)
    found = shown(look(0.0, job, before), look(2.0, job, said(worker), ledger=None))
    assert found.replies_per_s == 4.0
    assert [(part.name, part.unwritten) for part in found.parts if not part.up] == [("ledger", None)]


def test_troubles_are_counted_in_the_window_and_since_the_parts_began() -> None:
    assert shown(*traffic()).troubles == (
        TroubleRow(what="error reply", which="internal", recent=5.0, total=5.0),
        TroubleRow(what="dead letter", which="malformed", recent=0.0, total=2.0),
        TroubleRow(what="escalation", which="small, confidence", recent=1.0, total=1.0),
    )


def test_a_process_that_began_anew_counts_from_zero() -> None:
    old, new = Worker(), Worker()
    answer(old, 2, CacheStatus.MISS, 40.0)
    answer(old, 48, CacheStatus.MISS, 600.0)
    answer(new, 4, CacheStatus.MISS, 40.0)  # more than the old one had in this bucket, and less in all
    job = said(Job())
    found = shown(look(0.0, job, said(old)), look(2.0, job, said(new)))
    assert answers(found)["miss"].per_s == 2.0
    assert 30 < (answers(found)["miss"].p99_ms or 0) <= 60


# --- what nobody tells


def test_one_look_tells_what_is_there_and_no_rates() -> None:
    found = shown(traffic()[1])
    assert found.window_s == 0
    assert {row.per_s for row in found.answers} == {None}
    assert found.spent_per_h is None
    assert [row.recent for row in found.troubles] == [None, None, None]
    assert found.troubles[0].total == 5
    assert [topic.lag for topic in found.topics or ()] == [10]


def test_what_only_an_absent_part_could_tell_is_unknown_and_not_zero() -> None:
    first, second = traffic()
    workers_away = look(112.0, said(Job()), None, None, backlogs=None)
    found = shown(first, second, workers_away)
    rows = answers(found)
    assert rows["miss"].per_s is rows["exact"].share is found.replies_per_s is found.spent_per_h is None
    assert rows["exact"].per_s is not None
    assert found.topics is None
    assert [part.name for part in found.parts if not part.up] == ["worker", "worker", "kafka"]


def test_a_part_that_was_away_for_a_while_has_lost_nothing() -> None:
    worker, job = Worker(), said(Job())
    before = said(worker)
    answer(worker, 8, CacheStatus.MISS)
    found = shown(look(0.0, job, before), look(2.0, job, None), look(4.0, job, said(worker)))
    assert answers(found)["miss"].per_s == 2.0


def test_a_part_that_appears_is_counted_from_then_on() -> None:
    known, new, job = Worker(), Worker(), said(Job())
    answer(new, 1_000, CacheStatus.MISS)
    looks = [look(0.0, job, said(known), None), look(2.0, job, said(known), said(new))]
    answer(new, 6, CacheStatus.MISS)
    found = shown(*looks, look(4.0, job, said(known), said(new)))
    assert answers(found)["miss"].per_s == 1.5


# --- by themselves


def test_a_quantile_is_prometheus_histogram_quantile() -> None:
    buckets = {0.1: 10.0, 0.2: 30.0, 0.5: 40.0, math.inf: 50.0}
    assert quantile(0.1, buckets) == pytest.approx(0.05)
    assert quantile(0.5, buckets) == pytest.approx(0.175)
    assert quantile(0.8, buckets) == 0.5
    assert quantile(0.99, buckets) == 0.5  # beyond the last bound nobody knows how far
    assert quantile(0.5, {0.1: 0.0, math.inf: 0.0}) is None
    assert quantile(0.5, {}) is None


def test_the_window_holds_two_looks_at_least() -> None:
    looks = [look(at_s, None) for at_s in (0.0, 30.0, 60.0, 90.0)]
    assert within(60.0, looks) == looks[1:]
    assert within(1.0, looks) == looks[-2:]
    assert within(1.0, looks[:1]) == looks[:1]


# --- the screen


def text(found: Snapshot, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(overview(found, console))
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("width", [80, 120, 160])
def test_all_is_shown_at_every_width(width: int) -> None:
    lines = text(shown(*traffic()), width).splitlines()
    assert max(map(len, lines)) <= width
    page = " ".join("\n".join(lines).split())
    for figure in (
        "all parts are up over the last 10 s",
        "requests interactive 6.00/s batch 0/s replies 5.00/s",
        "spent $1,350.00/h saved $9,450.00/h (88%)",
        "exact 2.00 40%",
        "small 3.00 1.50 100% 20.0",
        "llm.requests 10 6.00",
        "escalation small, confidence 1 1",
    ):
        assert figure in page
    assert "…" not in page


def test_away_is_said_first_and_unknown_figures_are_dashes() -> None:
    first, second = traffic()
    page = text(shown(first, second, look(112.0, None, said(Worker()), None, backlogs=None)), 80)
    assert "away: job, worker (1 of 2), kafka" in page.splitlines()[0]
    assert ["exact", *"-----"] in [line.split() for line in page.splitlines()]
    assert "kafka is away" in page


def test_a_latency_beyond_the_last_bucket_is_said_to_be() -> None:
    worker, job = Worker(), said(Job())
    before = said(worker)
    answer(worker, 3, CacheStatus.MISS, 90_000.0)
    assert "> 60 s" in text(shown(look(0.0, job, before), look(2.0, job, said(worker))), 80)
