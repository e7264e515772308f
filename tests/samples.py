"""Reads what was counted."""

from prometheus_client import CollectorRegistry


def total(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels; 0 where there is none."""
    samples = (sample for metric in registry.collect() for sample in metric.samples)
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())
