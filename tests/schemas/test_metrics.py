"""Every metric has a name of its own that follows Prometheus' conventions, and a help text; labels are bounded."""

import re
from typing import Any

import pytest
from forebay_schemas.errors import ErrorCode
from forebay_schemas.metrics import (
    LATENCY_BUCKETS_S,
    BoundedLabel,
    GatewayMetrics,
    JobMetrics,
    LedgerMetrics,
    ReplyMetrics,
    RolloutMetrics,
    WorkerMetrics,
    exemplar,
    fqnames,
)
from forebay_schemas.records import CacheStatus, Lane, Latency, Reply, ReplyError, Usage
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ..builders import make_reply
from ..samples import total

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
FAILED = ReplyError(code=ErrorCode.INTERNAL, message="why", retryable=True)


def _metrics(kind: type[Any]) -> dict[str, Metric]:
    registry = CollectorRegistry()
    kind(registry)
    return {metric.name: metric for metric in registry.collect()}


SHARED, JOB, WORKER = _metrics(ReplyMetrics), _metrics(JobMetrics), _metrics(WorkerMetrics)
METRICS = list((JOB | WORKER | _metrics(LedgerMetrics) | _metrics(RolloutMetrics)).values())


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_by_convention_and_explained(metric: Metric) -> None:
    assert re.fullmatch(r"forebay_[a-z]+(_[a-z]+)*", metric.name)
    assert re.fullmatch(r"[A-Z1].*\.", metric.documentation)
    assert not re.search(r"_(ms|milliseconds|total|count|sum|bucket)$", metric.name), "the client adds what it must"
    if metric.type == "histogram":
        assert metric.name.endswith(("_seconds", "_size", "_ratio"))


def test_job_and_worker_share_only_what_they_count_of_replies() -> None:
    assert JOB.keys() & WORKER.keys() == SHARED.keys()


def test_fqnames_are_the_names_that_a_scrape_shows() -> None:
    scraped: set[str] = set()
    for kind in (JobMetrics, WorkerMetrics, LedgerMetrics, RolloutMetrics, GatewayMetrics):
        registry = CollectorRegistry()
        made = vars(kind(registry))
        replies = vars(made["replies"]) if "replies" in made else {}
        for metric in (*made.values(), *replies.values()):
            if hasattr(metric, "_labelnames"):
                child = metric.labels(*("x" for _ in metric._labelnames)) if metric._labelnames else metric
                child.observe(1) if hasattr(child, "observe") else child.inc()
        samples = re.findall(r"^(\w+)", generate_latest(registry).decode(), re.MULTILINE)
        scraped |= {name for name in samples if not name.endswith("_created")}

    assert fqnames() == scraped


def test_a_name_that_two_programs_serve_is_one_metric() -> None:
    described: dict[str, tuple[str, tuple[str, ...]]] = {}
    for kind in (JobMetrics, WorkerMetrics, LedgerMetrics, RolloutMetrics, GatewayMetrics):
        made = vars(kind(CollectorRegistry()))
        replies = vars(made["replies"]) if "replies" in made else {}
        for metric in (*made.values(), *replies.values()):
            if hasattr(metric, "_labelnames"):
                what = metric._documentation, metric._labelnames
                assert described.setdefault(metric._name, what) == what


def test_counters_end_in_total_and_times_in_seconds() -> None:
    names = fqnames()

    assert "forebay_requests_total" in names
    assert {f"forebay_reply_latency_seconds_{suffix}" for suffix in ("bucket", "count", "sum")} <= names


def test_the_buckets_hold_the_limits_that_alerts_and_goals_set() -> None:
    assert {0.008, 0.015, 0.35, 0.5, 60.0} <= set(LATENCY_BUCKETS_S)
    assert sorted(LATENCY_BUCKETS_S) == list(LATENCY_BUCKETS_S)


# Labels that askers choose


def test_the_first_values_of_a_label_keep_their_names_and_the_rest_are_other() -> None:
    label = BoundedLabel(2)

    assert [label.of(name) for name in ("acme", "shop", "bank", "acme", "bank", "shop")] == [
        "acme", "shop", "other", "acme", "other", "shop",
    ]  # fmt: skip


def test_tenants_and_endpoints_are_bounded_each_for_itself_and_lose_no_reply() -> None:
    registry = CollectorRegistry()
    metrics = ReplyMetrics(registry, label_values=3)
    for number in range(10):
        metrics.count(make_reply(tenant=f"tenant-{number}", endpoint=f"endpoint-{number % 2}", cost=0.5))

    samples = [sample for metric in registry.collect() for sample in metric.samples if "tenant" in sample.labels]
    assert {sample.labels["tenant"] for sample in samples} == {"tenant-0", "tenant-1", "tenant-2", "other"}
    assert total(registry, "forebay_endpoint_replies_total", tenant="other") == 7
    assert total(registry, "forebay_endpoint_replies_total", endpoint="endpoint-1") == 5
    assert total(registry, "forebay_endpoint_cost_dollars_total") == 5


# Sums


def _replies() -> list[Reply]:
    """Of every kind, with dollars that are exact in binary."""
    answered = [
        make_reply(
            cache_status=status,
            lane=lane,
            tier=tier,
            tenant=tenant,
            endpoint=endpoint,
            usage=Usage(prompt_tokens=number, completion_tokens=2 * number),
            cost=0.0 if status in ("exact", "semantic", "joined") else 0.25 * number,
            baseline_cost=float(number),
        )
        for number, (status, lane, tier, tenant, endpoint) in enumerate(
            (status, lane, tier, tenant, endpoint)
            for status in CacheStatus
            for lane in Lane
            for tier in ("small", "large")
            for tenant in ("acme", "shop", "bank")
            for endpoint in ("search", None)
        )
    ]
    failed = make_reply(error=FAILED, text="", tier="small", cost=0.5, baseline_cost=2.0)
    refused = make_reply(error=FAILED, text="", model_id=None, route=None, cache_status=CacheStatus.BYPASS)
    return [*answered, failed, refused]


def test_the_sums_over_metrics_are_the_sums_over_replies() -> None:
    registry = CollectorRegistry()
    metrics = ReplyMetrics(registry, label_values=2)
    replies = _replies()
    for reply in replies:
        metrics.count(reply)

    for by in ("reply", "endpoint"):
        assert total(registry, f"forebay_{by}_cost_dollars_total") == sum(reply.cost for reply in replies)
        assert total(registry, f"forebay_{by}_baseline_dollars_total") == sum(reply.baseline_cost for reply in replies)
    for kind in ("prompt", "completion"):
        tokens = sum(getattr(reply.usage, f"{kind}_tokens") for reply in replies)
        assert total(registry, "forebay_reply_tokens_total", kind=kind) == tokens
    for name in ("forebay_replies_total", "forebay_endpoint_replies_total"):
        assert total(registry, name) == len(replies)
        assert total(registry, name, outcome="internal") == 2
        for status in CacheStatus:
            assert total(registry, name, cache_status=status) == sum(reply.cache_status is status for reply in replies)
    saved = sum(reply.baseline_cost for reply in replies if reply.cache_status == "exact")
    assert total(registry, "forebay_reply_baseline_dollars_total", cache_status="exact") == saved
    assert total(registry, "forebay_reply_cost_dollars_total", cache_status="exact") == 0


def test_only_answers_count_for_latency() -> None:
    registry = CollectorRegistry()
    metrics = ReplyMetrics(registry)
    metrics.count(make_reply(latency=Latency(total_ms=250.0)))
    metrics.count(make_reply(error=FAILED, latency=Latency(total_ms=9_000.0)))

    assert total(registry, "forebay_reply_latency_seconds_sum") == 0.25
    assert total(registry, "forebay_reply_first_token_seconds_count") == 0  # nobody told when the first token came


def test_the_first_token_is_timed_from_the_requests_creation() -> None:
    registry = CollectorRegistry()
    timed = Latency(total_ms=2_000.0, generation_ms=1_500.0, first_token_ms=250.0)
    ReplyMetrics(registry).count(make_reply(latency=timed, tier="small"))

    assert total(registry, "forebay_reply_first_token_seconds_sum", tier="small") == 0.75


# Exemplars


NOT_SAMPLED = f"00-{TRACE_ID}-00f067aa0ba902b7-00"


@pytest.mark.parametrize("traceparent", [None, "", "00-trace", NOT_SAMPLED, TRACEPARENT.upper()])
def test_a_request_without_a_recorded_trace_has_no_exemplar(traceparent: str | None) -> None:
    assert exemplar(traceparent) is None


def test_a_slow_reply_leads_to_its_trace() -> None:
    registry = CollectorRegistry()
    ReplyMetrics(registry).count(make_reply(latency=Latency(total_ms=400.0)), TRACEPARENT)

    text = openmetrics.generate_latest(registry).decode()
    found = [
        (sample.labels["le"], sample.exemplar)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar is not None
    ]
    ((bucket, mark),) = found
    assert (bucket, mark.labels, mark.value) == ("0.5", {"trace_id": TRACE_ID}, 0.4)
