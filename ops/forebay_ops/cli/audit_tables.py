"""Shows the report of `forebay audit` in tables of at most 100 columns."""

from collections.abc import Iterator

from forebay_jobs.reuse.eligibility import Reuse
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..audit.clusters import LEFT_ALONE_SHARE, Cluster
from ..audit.report import Bill, Log, Report
from ..figures import money
from .tables import figures_table

_COLUMNS = 100
_HELD_BACK = {
    Reuse.POLICY: "by their category or cache policy",
    Reuse.TEMPERATURE: "for their temperature",
    Reuse.TIME_SENSITIVE: "as time-sensitive",
    Reuse.USER_SPECIFIC: "as user-specific",
}


def show(console: Console, report: Report) -> None:
    """Print the report."""
    console.width = min(console.width, _COLUMNS)
    for line in _read(report.log):
        console.print(Text(line))
    for table in (_ways(report), _bill(report), _models(report)):
        console.print()
        console.print(table)
    console.print()
    for line in _facts(report):
        console.print(Text(line))
    if report.clusters:
        console.print()
        console.print(_clusters(report))
    console.print()
    for note in report.notes:
        console.print(Text(f"note: {note}"))


def _read(log: Log) -> Iterator[str]:
    span = ""
    if log.first and log.last:
        days = (log.last - log.first).total_seconds() / 86_400
        span = f", {log.first:%Y-%m-%d %H:%M} to {log.last:%Y-%m-%d %H:%M} UTC ({days:.1f} days)"
    yield f"{log.calls:,} calls in {log.lines:,} lines{span}"
    if log.failed:
        yield f"{log.failed:,} failed calls are left out"
    if log.unreadable:
        yield f"{log.unreadable:,} lines could not be used and are left out, the first of them:"
        yield from (f"  {problem}" for problem in log.problems)


def _sides(report: Report) -> dict[str, Bill]:
    """The ways to run that were looked at, by their headings."""
    sides = {"exact only": report.exact_only}
    return sides | {"with near": report.with_near} if report.questions else sides


def _ways(report: Report) -> Table:
    sides = _sides(report)
    table = figures_table("answered by", *(heading for side in sides for heading in (side, "share")))
    parts = [{part.way: part for part in bill.parts} for bill in sides.values()]
    for way in dict.fromkeys(way for side in reversed(parts) for way in side):
        cells = []
        for side in parts:
            part = side.get(way)
            cells += [f"{part.calls:,}", f"{part.share:.1%}"] if part else ["", ""]
        table.add_row(way, *cells)
    return table


def _bill(report: Report) -> Table:
    sides = _sides(report)
    table = figures_table("bill", *sides)
    bills = list(sides.values())
    table.add_row("today", *(money(bill.today) for bill in bills))
    table.add_row("  saved by exact repeats", *(money(-bill.saved_exact) for bill in bills))
    if report.questions:
        table.add_row("  saved by near repeats, at most", "", money(-report.with_near.saved_near))
    table.add_row("  saved by the tiers' prices", *(money(-bill.saved_routing) for bill in bills))
    table.add_row("with Forebay", *(money(bill.then) for bill in bills), style="bold")
    table.add_row("saved", *(f"{bill.saved_share:.1%}" for bill in bills), style="bold")
    if report.exact_only.month_today is not None:
        table.add_row("30 days today", *(money(bill.month_today or 0.0) for bill in bills))
        table.add_row("30 days with Forebay", *(money(bill.month_then or 0.0) for bill in bills))
    return table


def _models(report: Report) -> Table:
    table = figures_table("today's models", "calls", "cost", "share")
    for model in report.models:
        share = model.cost / report.exact_only.today if report.exact_only.today else 0.0
        table.add_row(model.model, f"{model.calls:,}", money(model.cost), f"{share:.1%}")
    return table


def _facts(report: Report) -> Iterator[str]:
    held = {reuse: report.reuse[reuse] for reuse in _HELD_BACK if report.reuse.get(reuse)}
    if held:
        reasons = ", ".join(f"{count:,} {_HELD_BACK[reuse]}" for reuse, count in held.items())
        yield f"never reused: {sum(held.values()) / report.log.calls:.1%} of the calls ({reasons})"
    if report.questions:
        thresholds = ", ".join(f"{name} {least:g}" for name, least in report.thresholds.items())
        yield (
            f"compared by meaning: {report.looked_up:,} calls, {report.questions:,} distinct questions embedded;"
            f" near from a cosine of: {thresholds}"
        )
    whole, generated = report.prefix, report.prefix_generated
    yield (
        f"prompt tokens in a static prefix that was seen before: {whole.share:.1%} of all {whole.prompt_tokens:,},"
        f" {generated.share:.1%} of those that would still be generated from"
    )


def _clusters(report: Report) -> Table:
    table = figures_table("most central question of the cluster", "calls", "questions", "cost", "share")
    table.columns[0].no_wrap, table.columns[0].overflow = True, "ellipsis"
    table.expand, table.columns[0].ratio = True, 1  # the figures come first, the question takes what is left
    shown = [cluster for cluster in report.clusters if cluster.top or cluster.share >= LEFT_ALONE_SHARE]
    for number, cluster in enumerate(shown, start=1):
        table.add_row(_name(number, cluster), *_figures(cluster), style="bold" if cluster.top else "")
    if report.left_alone:
        name = f"{report.left_alone} clusters under {LEFT_ALONE_SHARE:.0%} each: left alone"
        table.add_row(name, "", "", "", f"{report.left_alone_share:.1%}")
    table.caption = "* the costliest, which make a fifth of the bill"
    table.caption_justify = "left"
    return table


def _name(number: int, cluster: Cluster) -> Text:
    return Text(f"{'*' if cluster.top else ' '} {cluster.central or f'cluster {number}'}")


def _figures(cluster: Cluster) -> tuple[str, str, str, str]:
    return f"{cluster.calls:,}", f"{cluster.questions:,}", money(cluster.cost), f"{cluster.share:.1%}"
