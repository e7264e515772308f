"""Reads what was counted."""

import urllib.request

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def total(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels; 0 where there is none."""
    samples = (sample for metric in registry.collect() for sample in metric.samples)
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def served(port: int) -> list[Sample]:
    """What a process serves on its metrics port, as Prometheus asks for it; nothing while it does not serve."""
    # For exemplars, and for names with colons as they are.
    accepted = {"Accept": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"}
    request = urllib.request.Request(f"http://localhost:{port}/metrics", headers=accepted)
    try:
        with urllib.request.urlopen(request, timeout=2) as response:
            families = list(text_string_to_metric_families(response.read().decode()))
    except OSError:
        return []
    return [sample for family in families for sample in family.samples]
