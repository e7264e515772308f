"""What a benchmark has measured, as a table for people and JSON for programs."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from ..json_files import write_json
from .harness import Figure

COLUMNS = ("metric", "side", "median", "spread", "ratio", "goal")
_VERDICTS = {True: "met", False: "missed", None: "unknown"}
_COLOURS = {True: "green", False: "red", None: "yellow"}
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured."""

    processor: str
    cores: int
    """Those that this process may use."""
    memory_gib: float
    python: str
    busy_cores: float
    """What others took of the cores before it began: figures from a busy machine say little."""

    def __str__(self) -> str:
        busy = f"{self.busy_cores:.1f} of them busy before it began"
        return f"{self.processor}, {self.cores} cores ({busy}), {self.memory_gib:.0f} GiB, Python {self.python}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run of one benchmark."""

    bench: str
    measured_at: datetime
    machine: Machine
    rounds: int
    options: Mapping[str, str | int | float]
    figures: list[Figure]
    facts: Mapping[str, str | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table, and whether its goal is met."""

    cells: tuple[str, ...]
    met: bool | None


def this_machine() -> Machine:
    """Describe this machine; to be asked before anything is started, because it looks how busy it is for a while."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=psutil.virtual_memory().total / 2**30,
        python=platform.python_version(),
        busy_cores=psutil.cpu_percent(_LOOK_S) / 100 * (os.cpu_count() or 1),
    )


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def write(report: Report, file: Path) -> None:
    """Write the report as JSON."""
    write_json(file, report)


def show(report: Report, console: Console) -> None:
    """Print the report: a row for each metric of each side, and a line for each fact."""
    options = ", ".join(f"{name} {value}" for name, value in report.options.items())
    title = f"{report.bench} ({options})" if options else report.bench
    console.print(f"\n{title}, {report.measured_at:%Y-%m-%d}: {report.rounds} rounds on {report.machine}", markup=False)
    table = Table(box=None, header_style="bold")
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in ("median", "spread", "ratio") else "left")
    for row in rows(report):
        *others, verdict = row.cells
        table.add_row(*others, f"[{_COLOURS[row.met]}]{verdict}[/]" if verdict else "")
    console.print(table)
    for name, fact in report.facts.items():
        text = fact if isinstance(fact, str) else _number(fact)
        console.print(f"{name}: {text}", markup=False, highlight=False, soft_wrap=True)


def rows(report: Report) -> list[Row]:
    """A row for each metric of each side, as people read it."""
    found = []
    last = None
    for figure in report.figures:
        cells = (
            figure.metric if figure.metric != last else "",
            figure.side,
            _number(figure.median),
            f"{_number(figure.low)} to {_number(figure.high)}",
            _beside_baseline(figure),
            "" if figure.goal is None else f"{figure.goal}: {_VERDICTS[figure.met]}",
        )
        found.append(Row(cells, figure.met))
        last = figure.metric
    return found


def _beside_baseline(figure: Figure) -> str:
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}x"
    return ratio if figure.difference is None else f"{ratio}, {figure.difference:+.2f}"


def _number(value: float) -> str:
    """Three or more significant digits, never an exponent."""
    for bound, digits in ((1000, 0), (100, 1), (1, 2)):
        if abs(value) >= bound:
            return f"{value:,.{digits}f}"
    return f"{value:.3f}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
