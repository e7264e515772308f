"""How `forebay batch` shows its progress, and how batches stand."""

import datetime as dt
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import click
from forebay_client.batch import BatchStatus, Projection
from forebay_schemas.records import BatchState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..figures import money, roughly
from .progress import ConsoleProgress
from .tables import figures_table

_PHASES = {
    "sending": "being sent; if no process sends it any more, `submit` again or `resume` goes on",
    "running": "all rows are sent",
    "sampled": "its sample is sent; `submit` or `resume` sends the rest",
    "ceiling": "stopped at its price ceiling; `resume --price-ceiling USD` goes on",
    "cancelling": "taken back; some rows have no reply yet",
    "cancelled": "taken back",
    "completed": "completed",
    "expired": "its completion window ended",
}

_RATE_OVER_S = 30.0
"""As rich estimates what is left. What was done before is read at once, and says nothing of what comes."""


class _Bar:
    """A bar on a terminal, elsewhere a line now and then."""

    def __init__(self, console: Console, what: str) -> None:
        self._what = what
        self._marks: deque[tuple[float, int]] = deque()
        """When how much was done, over the last seconds."""
        self._lines = None if console.is_terminal else ConsoleProgress(console)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=self._lines is not None,
        )
        self._task: Any = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.stop()

    def show(self, done: int, total: int, *facts: str) -> None:
        """So far it is; what is told besides goes beside the rate."""
        now = time.monotonic()
        self._marks.append((now, done))
        while now - self._marks[0][0] > _RATE_OVER_S:
            self._marks.popleft()
        began_s, before = self._marks[0]
        rate = (done - before) / max(0.001, now - began_s)
        told = " · ".join([f"{rate:,.0f}/s", *facts])
        if self._lines is not None:
            left = f", {roughly((total - done) / rate)} left" if rate else ""
            self._lines.counting(f"{done:,} of {total:,} {self._what}{left} · {told}")
            return
        if self._task is None:
            self._task = self._bar.add_task(self._what, total=total, completed=done, told=told)
        self._bar.update(self._task, total=total, completed=done, told=told)


class SentBar(_Bar):
    """Told of the state of a batch as its file goes out: prints its id first, then shows how far it is."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "sent")
        self.batch_id = ""
        self.began_s: float | None = None
        """When the first row was to be sent, in seconds of the monotonic clock; None where others were sent before."""
        self._looking: Any = None

    def looked(self, rows: int) -> None:
        """Told of the rows that are looked at before any is sent."""
        if self._lines is not None:
            self._lines.counting(f"{rows:,} rows looked at")
            return
        if self._looking is None:
            self._looking = self._bar.add_task("looking at rows", total=None, told="")
        self._bar.update(self._looking, completed=rows)

    def __call__(self, state: BatchState) -> None:
        if not self.batch_id:
            self.batch_id = state.batch_id
            self.began_s = None if state.read else time.monotonic()
            if self._looking is not None:
                self._bar.remove_task(self._looking)
            click.echo(state.batch_id)
        refused = state.read - state.sent
        self.show(state.read, state.rows, *([f"{refused:,} refused"] if refused else []))


class AnsweredBar(_Bar):
    """Told of the status of a batch as its replies come."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "answered")

    def __call__(self, status: BatchStatus) -> None:
        facts = [f"hits {_share(status.hits, status.answered)}", money(status.cost)]
        if status.failed:
            facts.insert(1, f"{status.failed:,} failed")
        self.show(status.refused + status.settled, status.state.rows, *facts)


class Counter(ConsoleProgress):
    """Shows how many rows were looked at, or written."""

    def __init__(self, console: Console, what: str) -> None:
        super().__init__(console)
        self._what = what

    def __call__(self, rows: int) -> None:
        self.counting(f"{rows:,} {self._what}")


def status_table(status: BatchStatus) -> Table:
    """How one batch stands."""
    state = status.state
    table = figures_table("", "rows", "cost")
    table.title, table.title_justify = f"{status.batch_id}: {_PHASES[status.phase]}", "left"
    table.add_row("in the file", f"{state.rows:,}", "")
    table.add_row("sent", f"{state.sent:,}", "")
    for kind, counted in sorted(status.replies.items(), key=lambda item: -item[1].rows):
        table.add_row(f"  {kind}", f"{counted.rows:,}", money(counted.cost))
    if waiting := state.sent - status.settled:
        table.add_row("  no reply yet", f"{waiting:,}", "")
    if status.refused:
        table.add_row("refused", f"{status.refused:,}", "")
    table.add_row("spent", "", money(status.cost))
    if status.baseline_cost:
        table.add_row("on the largest tier, without caches", "", money(status.baseline_cost))
    if state.price_ceiling is not None:
        table.add_row("price ceiling", "", money(state.price_ceiling))
    notes = [f"window ends {_at(state.deadline_ms)}"]
    if status.gap:
        notes.append("replies that were not read yet are gone from Kafka: raise the reply topic's retention")
    table.caption, table.caption_justify = "; ".join(notes), "left"
    return table


def sample_table(status: BatchStatus, took_s: float | None) -> Table:
    """What the whole batch comes to if all of it is like the sample that was sent.

    Args:
        took_s: from the sample's first row to its last reply; None where that is not known.
    """
    state = status.state
    factor = state.rows / max(1, state.read)
    table = figures_table(f"if all is like the first {state.read:,} rows, which were sent", "")
    table.add_row("cost", money(status.cost * factor))
    table.add_row("answered without a generation", _share(status.hits, status.answered))
    table.add_row("rows that fail", f"{round(status.failed * factor):,}")
    if took_s is not None:
        table.add_row("time, at the rate of the sample", roughly(took_s * factor))
    table.caption, table.caption_justify = (
        "the sample is part of the batch: submit sends and pays only the rest",
        "left",
    )
    return table


def projection_table(projection: Projection) -> Table:
    """What a file holds, and what its answers may cost."""
    table = figures_table("nothing was sent", "")
    table.add_row("rows", f"{projection.rows:,}")
    if projection.refused:
        table.add_row(f"  refused; the first: {projection.first_problem}", f"{projection.refused:,}")
    table.add_row("  equal to one before, answered with it", f"{projection.repeated:,}")
    table.add_row("prompt tokens to read, about", f"{projection.prompt_tokens:,}")
    for name, usd in projection.by_tier.items():
        table.add_row(f"cost if {name} answers all that it may, as long as it may", money(usd))
    table.add_row("cost at most, whatever tiers are asked in turn", money(projection.at_most))
    table.caption = "at batch prices, nothing from the caches; hits and time tells --sample ROWS, which sends them"
    table.caption_justify = "left"
    return table


def batches_table(states: Sequence[BatchState]) -> Table:
    """All batches, a line each; the id stays whole where there is little room, because it is to be copied."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title, folds in {"batch": False, "tenant": True, "file": True, "stage": False}.items():
        table.add_column(title, no_wrap=not folds, overflow="fold")
    for title in ("sent", "began (UTC)"):
        table.add_column(title, justify="right", no_wrap=True)
    for state in states:
        name = state.source.rpartition("/")[2]
        sent, began = _share(state.read, state.rows), _at(state.created_ms, "%m-%d %H:%M")
        table.add_row(state.batch_id, state.tenant, name, state.stage, sent, began)
    return table


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _at(ms: int, form: str = "%Y-%m-%d %H:%M UTC") -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).strftime(form)
