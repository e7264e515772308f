"""Shows the play on a terminal or in a log: one line for each answer, what is awaited, and the sums at the end."""

from collections import Counter
from collections.abc import Iterator, Sequence

from forebay_schemas.config import Config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..figures import dollars, duration, tier_of
from .player import Outcome, Play, Watcher
from .script import Expect, Line
from .summary import Summary

_COLOURS = {
    Expect.EXACT: "green",
    Expect.SEMANTIC: "cyan",
    Expect.JOINED: "blue",
    Expect.MISS: "yellow",
    Expect.BYPASS: "magenta",
    Expect.ERROR: "red",
    Expect.DEAD_LETTER: "red",
}
_MEANINGS = {
    Expect.EXACT: "exact hit",
    Expect.SEMANTIC: "semantic hit",
    Expect.JOINED: "joined in flight",
    Expect.MISS: "miss, generated",
    Expect.BYPASS: "bypass, generated",
    Expect.ERROR: "error reply",
    Expect.DEAD_LETTER: "dead letter",
}
_WIDE = 110
"""From this width on a model's name fits in full beside a readable question."""
_KIND_FROM, _KIND_TO = 13, 21
"""Where a row says how it was answered."""
_INDENT = " " * 4
_SILENCE_TOLD_EVERY_S = 10


class Show(Watcher):
    """Prints the play as it goes. Use it as a context manager, so that the bar ends with it.

    Args:
        lines: all that will be played.
    """

    def __init__(self, console: Console, lines: Sequence[Line]) -> None:
        self._console = console
        self._questions = {line.number: line.question for line in lines}
        self._told_s = 0.0
        self._progress = Progress(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=len(lines))

    def __enter__(self) -> "Show":
        titles = ("#", "tenant", "answered", "tier", "model", "latency", "cost", "question")
        self._console.print(Text(self._row(*titles), style="bold"))
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def answered(self, outcome: Outcome) -> None:
        self._progress.advance(self._task)
        line, reply, kind = outcome.line, outcome.reply, outcome.kind
        row = Text(
            self._row(
                str(line.number),
                line.tenant or "-",
                "dead" if kind is Expect.DEAD_LETTER else kind,
                (reply and tier_of(reply)) or "-",
                (reply.model_id if reply else None) or "-",
                duration(outcome.latency_ms),
                dollars(reply.cost) if reply and not reply.error else "-",
                line.question,
            )
        )
        row.stylize(f"bold {_COLOURS[kind]}", _KIND_FROM, _KIND_TO)
        self._console.print(row)
        for detail in self._details(outcome):
            self._console.print(Text(_INDENT + _cut(detail, self._console.width - len(_INDENT)), style="dim"))

    def waiting(self, in_flight: Sequence[Line], to_send: int, silent_s: float) -> None:
        what = f"waiting for {_numbers(in_flight)}" if in_flight else "next requests in a moment"
        self._progress.update(self._task, description=what)
        self._told_s = min(self._told_s, silent_s)
        if not self._console.is_terminal and silent_s - self._told_s >= _SILENCE_TOLD_EVERY_S:
            self._told_s = silent_s
            self._console.print(f"... {what} for {silent_s:.0f} s, {to_send} more to send", markup=False)

    def _row(self, number: str, tenant: str, kind: str, tier: str, model: str, time: str, cost: str, text: str) -> str:
        model_width = 21 if self._console.width >= _WIDE else 12
        left = (
            f"{number:>3} {_cut(tenant, 8):8} {kind:8} {_cut(tier, 6):6} {_cut(model, model_width):{model_width}}"
            f" {time:>7} {cost:>9} "
        )
        return left + _cut(text, max(10, self._console.width - len(left)))

    def _details(self, outcome: Outcome) -> Iterator[str]:
        line, reply = outcome.line, outcome.reply
        if reply and reply.error:
            yield f"{reply.error.code}: {reply.error.message}"
        elif outcome.dead_letter:
            yield f"{outcome.dead_letter.code}: {outcome.dead_letter.reason}"
        if reply and outcome.kind is Expect.SEMANTIC:
            number = int((reply.matched_request_id or "").rpartition("-")[2] or 0)
            yield f"asked  {line.question}"
            yield f"known  {self._questions.get(number, '')} (#{number}, cosine {reply.similarity or 0:.3f})"
        if reply and outcome.kind is Expect.MISS and line.after and reply.similarity is not None:
            yield f"cosine {reply.similarity:.3f} with the nearest known question"
        if line.note:
            yield line.note


def show_summary(console: Console, summary: Summary, play: Play, config: Config) -> None:
    """Print the sums at the end."""
    console.print()
    console.print(Text(f"{summary.requests} requests in {play.duration_s:.0f} s", style="bold"))
    console.print()
    console.print(_kinds(summary))
    console.print()
    console.print(_tiers(summary, config))
    console.print()
    console.print(_costs(summary, config))
    console.print()
    for sentence in (*_failures(summary), *_expectations(summary), _honesty(config)):
        console.print(Text(sentence))


def _kinds(summary: Summary) -> Table:
    table = _table("answered by", "requests", "share", "P50", "P95", "P99")
    for row in summary.kinds:
        table.add_row(
            Text(_MEANINGS[row.kind], style=_COLOURS[row.kind]),
            str(row.count),
            _share(row.count, summary.requests),
            duration(row.p50_ms),
            duration(row.p95_ms),
            duration(row.p99_ms),
        )
    return table


def _tiers(summary: Summary, config: Config) -> Table:
    table = _table("generated by", "priced as", "requests", "share", "tokens", "cost")
    table.columns[1].justify = "left"
    for row in summary.tiers:
        tier = config.tiers[row.tier]
        table.add_row(
            row.tier,
            tier.priced_as or tier.model,
            str(row.count),
            _share(row.count, summary.generated),
            str(row.completion_tokens),
            dollars(row.cost),
        )
    return table


def _costs(summary: Summary, config: Config) -> Table:
    table = _table("cost", "", "")
    table.columns[2].justify = "left"
    table.add_row(f"all sent to the {config.largest_tier} tier", dollars(summary.baseline_cost), "")
    table.add_row("  saved by reuse", dollars(-summary.saved_by_reuse), "")
    table.add_row("  saved by smaller tiers and the batch lane", dollars(-summary.saved_by_tiers), "")
    saved = f"{_share(summary.saved, summary.baseline_cost)} saved"
    table.add_row(
        Text("spent", style="bold"), Text(dollars(summary.cost), style="bold"), Text(saved, style="bold green")
    )
    return table


def _failures(summary: Summary) -> Iterator[str]:
    yield f"Error replies: {_list(summary.errors)}"
    told = f"; {summary.dead_letters_told} of them with an error reply too" if summary.dead_letters else ""
    yield f"Dead letters: {_list(summary.dead_letters)}{told}"


def _list(codes: Counter[str]) -> str:
    return ", ".join(f"{count} {code}" for code, count in codes.most_common()) or "none"


def _expectations(summary: Summary) -> Iterator[str]:
    if summary.surprises:
        items = ", ".join(f"#{item.line.number} {item.kind} for {item.line.expect}" for item in summary.surprises)
        yield f"Answered otherwise than the script expects: {items}"


def _honesty(config: Config) -> str:
    models = {tier.model for tier in config.tiers.values()}
    shared = f"all tiers share one small model here ({models.pop()}), and " if len(models) == 1 else ""
    return (
        f"\nMind: {shared}costs are the list prices of the models that the tiers stand for. Cached answers share the"
        " cores with the model, so their latencies say little. The requests are written to show each mechanism, right"
        " and wrong reuse included: none of these figures is a benchmark."
    )


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _numbers(lines: Sequence[Line]) -> str:
    shown = ", ".join(f"#{line.number}" for line in lines[:3])
    return shown + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")


def _cut(text: str, width: int) -> str:
    """One line of at most ``width`` characters; two dots mark a cut, as logs may be ASCII."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 2] + ".."
