"""Asks the parts for the metrics that are shown: those of ``forebay_schemas.metrics``, from where Prometheus has them.

The parts are asked themselves, and not a Prometheus: a stack of `forebay up` has none, and what is shown is to be
seconds old and there when Prometheus is not.
"""

import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlencode

from forebay_schemas.sections import MetricsConfig
from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 2.0

Labels = tuple[tuple[str, str], ...]
"""Names and values, sorted by name."""


class Metric(StrEnum):
    """The metrics that are asked for.

    By name, because a part that counts many tenants and endpoints takes half a second for all that it has, and the
    job would take that from its requests.
    """

    REQUESTS = "forebay_requests_total"
    REPLIES = "forebay_replies_total"
    COST = "forebay_reply_cost_dollars_total"
    BASELINE = "forebay_reply_baseline_dollars_total"
    LATENCY = "forebay_reply_latency_seconds_bucket"
    TASKS = "forebay_tasks_total"
    DEAD_LETTERS = "forebay_dead_letters_total"
    STORE_UP = "forebay_store_up"
    STORE_ERRORS = "forebay_store_errors_total"
    INFLIGHT = "forebay_worker_inflight"
    HELD = "forebay_worker_held"
    TOKENS = "forebay_worker_tokens_total"
    GENERATION = "forebay_generation_seconds_bucket"
    GENERATION_COST = "forebay_cost_dollars_total"
    ESCALATIONS = "forebay_worker_escalations_total"
    STANDBY_ANSWERS = "forebay_worker_standby_answers_total"
    FAILED_ATTEMPTS = "forebay_worker_failed_attempts_total"
    COMMITS = "forebay_worker_commits_total"
    WORKER_DEAD_LETTERS = "forebay_worker_dead_letters_total"
    LEDGER_LAG = "forebay_ledger_lag_records"
    STARTED = "process_start_time_seconds"
    """The Prometheus client's own: when the process began, in seconds since the Unix epoch."""

    @property
    def is_counter(self) -> bool:
        """Whether it only grows as long as its process lives."""
        return self.endswith(("_total", "_bucket"))


Samples = Mapping[tuple[Metric, Labels], float]
"""What one process said at one moment, by metric and labels."""


class Kind(StrEnum):
    """Who serves metrics of ours."""

    JOB = "job"
    """A TaskManager with the job in it."""
    WORKER = "worker"
    LEDGER = "ledger"


@dataclass(frozen=True, slots=True)
class Target:
    """One process that serves metrics.

    Attributes:
        name: what people know it by: host and port as configured, where that is one process alone.
        address: where it is asked; None where the host's name is not known.
    """

    kind: Kind
    name: str
    address: tuple[str, int] | None


def targets(metrics: MetricsConfig) -> list[Target]:
    """The processes that are configured. Names are looked up anew each time: services are scaled, pods replaced."""
    return [
        target
        for kind, names, port in (
            (Kind.JOB, metrics.job_targets, metrics.job_port),
            (Kind.WORKER, metrics.worker_targets, metrics.worker_port),
            (Kind.LEDGER, metrics.ledger_targets, metrics.ledger_port),
        )
        for name in names
        for target in _targets(kind, name, port)
    ]


def _targets(kind: Kind, name: str, default_port: int) -> list[Target]:
    host, _, port = name.partition(":")
    name, number = f"{host}:{port or default_port}", int(port or default_port)
    try:
        # IPv4, as the parts listen.
        found = socket.getaddrinfo(host, number, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except OSError:
        return [Target(kind, name, None)]
    addresses = sorted({(str(address[0]), number) for *_, address in found})
    if len(addresses) == 1:
        return [Target(kind, name, addresses[0])]
    return [Target(kind, f"{ip}:{number}", (ip, number)) for ip, number in addresses]


def scrape(target: Target) -> Samples | None:
    """What the process says now, within seconds; None where it does not answer."""
    if target.address is None:
        return None
    connection = http.client.HTTPConnection(*target.address, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", f"/metrics?{urlencode({'name[]': list(Metric)}, doseq=True)}")
        response = connection.getresponse()
        return parse(response.read().decode()) if response.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def parse(text: str) -> Samples:
    """The samples in Prometheus' text format that are shown.

    Raises:
        ValueError: it is something else.
    """
    shown = {metric.value: metric for metric in Metric}
    return {
        (shown[sample.name], tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in shown
    }
