"""Every metric has a name of its own that follows Prometheus' conventions, and a help text."""

import re

import pytest
from forebay_schemas.metrics import LATENCY_BUCKETS_S, JobMetrics, WorkerMetrics, fqnames
from prometheus_client import CollectorRegistry, Metric, generate_latest


def _metrics() -> list[Metric]:
    registry = CollectorRegistry()
    JobMetrics(registry)
    WorkerMetrics(registry)  # a name that both have is an error of prometheus_client
    return list(registry.collect())


METRICS = _metrics()


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_by_convention_and_explained(metric: Metric) -> None:
    assert re.fullmatch(r"forebay_[a-z]+(_[a-z]+)*", metric.name)
    assert re.fullmatch(r"[A-Z1].*\.", metric.documentation)
    assert not re.search(r"_(ms|milliseconds|total|count|sum|bucket)$", metric.name), "the client adds what it must"
    if metric.type == "histogram":
        assert metric.name.endswith(("_seconds", "_size"))


def test_names_are_unique() -> None:
    names = [metric.name for metric in METRICS]

    assert len(names) == len(set(names))


def test_fqnames_are_the_names_that_a_scrape_shows() -> None:
    registry = CollectorRegistry()
    for metrics in (JobMetrics(registry), WorkerMetrics(registry)):
        for metric in vars(metrics).values():
            child = metric.labels(*("x" for _ in metric._labelnames)) if metric._labelnames else metric
            child.observe(1) if hasattr(child, "observe") else child.inc()
    samples = re.findall(r"^(\w+)", generate_latest(registry).decode(), re.MULTILINE)
    scraped = {name for name in samples if not name.endswith("_created")}

    assert fqnames() == scraped


def test_counters_end_in_total_and_times_in_seconds() -> None:
    names = fqnames()

    assert "forebay_requests_total" in names
    assert {f"forebay_reply_latency_seconds_{suffix}" for suffix in ("bucket", "count", "sum")} <= names


def test_the_buckets_hold_the_goals_for_cached_replies() -> None:
    assert {0.008, 0.015} <= set(LATENCY_BUCKETS_S)
    assert sorted(LATENCY_BUCKETS_S) == list(LATENCY_BUCKETS_S)
