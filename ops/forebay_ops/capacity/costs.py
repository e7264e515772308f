"""What one request costs each part, as `forebay bench costs` measured it."""

from importlib import resources
from pathlib import Path

import msgspec
from forebay_schemas.errors import ConfigError


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Of one request that was answered in one way."""

    job_cpu_ms: float
    """Milliseconds of one core, here and below."""
    kafka_cpu_ms: float
    redis_cpu_ms: float
    worker_cpu_ms: float
    """Of the worker beside its model."""
    ledger_cpu_ms: float
    kafka_bytes: float
    """Written to all topics, one copy of each."""
    redis_bytes: float
    """Kept, for as long as what was written lives."""


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """By how a request was answered."""

    exact: Cost
    semantic: Cost
    miss: Cost
    """Looked up, and generated."""
    source: str
    """When and on what it was measured."""


class _Figure(msgspec.Struct):
    metric: str
    side: str
    median: float


class _Machine(msgspec.Struct):
    processor: str
    cores: int


class _Report(msgspec.Struct):
    """As much of a benchmark's JSON as is needed here."""

    bench: str
    measured_at: str
    machine: _Machine
    figures: list[_Figure]


def read_costs(file: Path | None = None) -> Costs:
    """The costs in a file that `forebay bench costs --out` wrote; absent: those that come with the package.

    Raises:
        ConfigError: the file is none, or tells not all.
    """
    name = str(file or "measured.json")
    try:
        text = (file or resources.files("forebay_ops.capacity") / "measured.json").read_bytes()
        report = msgspec.json.decode(text, type=_Report)
        found = {side: {} for side in ("exact", "semantic", "miss")}
        for figure in report.figures:
            found.get(figure.side, {})[figure.metric] = figure.median
        ways = {side: msgspec.convert(figures, Cost) for side, figures in found.items()}
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{name} holds no costs of requests ({error}); write one with `forebay bench costs --out {name}`"
        ) from None
    machine = report.machine
    return Costs(**ways, source=f"{report.measured_at[:10]}, {machine.cores} cores of {machine.processor}")
