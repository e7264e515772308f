"""How `forebay top` lays out a snapshot."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from forebay_schemas.metrics import LATENCY_BUCKETS_S
from forebay_schemas.records import Lane
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..figures import duration, money
from ..top.snapshot import Snapshot
from .reply_lines import COLOURS
from .tables import figures_table

_UNBOUNDED = 10_000
"""Columns; a table is measured as wide as it would be if it had all the room."""
_UNKNOWN = "-"
_LONGEST_MS = LATENCY_BUCKETS_S[-1] * 1000


def overview(snapshot: Snapshot, console: Console) -> RenderableType:
    """All of a snapshot, as wide as the console is."""
    answers, tiers, topics = _answers(snapshot), _tiers(snapshot), _topics(snapshot)
    parts, troubles = _parts(snapshot), _troubles(snapshot)
    body: RenderableType = Table.grid(padding=(0, 2, 0, 0))
    body.add_row(_stacked(answers, topics), _stacked(tiers, parts, troubles))
    if console.measure(body, options=console.options.update(width=_UNBOUNDED)).maximum > console.width:
        body = _stacked(answers, tiers, topics, parts, troubles)
    mix = [_mix(snapshot, console.width)] if console.color_system else []  # without colours it would say nothing
    return Group(*_head(snapshot), *mix, Text(), body)


def _head(snapshot: Snapshot) -> Iterator[Text]:
    """What is there, what comes in, and what it costs."""
    line = Text(f"{snapshot.taken:%H:%M:%S}  ")
    if away := Counter(part.name for part in snapshot.parts if not part.up):
        there = Counter(part.name for part in snapshot.parts)
        names = (f"{name} ({away[name]} of {there[name]})" if there[name] > 1 else name for name in away)
        line.append(f"away: {', '.join(names)}", "bold red")
    else:
        line.append("all parts are up", "green")
    yield line.append(f"  over the last {snapshot.window_s:.0f} s")
    rates = "  ".join(f"{lane} {_rate(snapshot.requests_per_s[lane])}/s" for lane in Lane)
    yield Text(f"requests {rates}  replies {_rate(snapshot.replies_per_s)}/s")
    spent, saved = snapshot.spent_per_h, snapshot.saved_per_h
    share = f" ({saved / (spent + saved):.0%})" if spent is not None and saved is not None and spent + saved else ""
    yield Text(f"spent {money(spent)}/h  saved {money(saved)}/h{share}")


def _mix(snapshot: Snapshot, width: int) -> Text:
    """How the replies of the window divide, as one bar; what is too narrow for its name is colour alone."""
    bar = Text(no_wrap=True)
    whole = 0.0
    for row in snapshot.answers:
        whole += row.share or 0.0
        cells = round(whole * width) - len(bar)
        label = f" {row.answered_by} {_share(row.share)} "
        bar.append(label.ljust(cells) if len(label) <= cells else " " * cells, f"black on {COLOURS[row.answered_by]}")
    return bar


def _answers(snapshot: Snapshot) -> Table:
    table = figures_table("answered by", "/s", "share", "P50", "P95", "P99")
    for row in snapshot.answers:
        latencies = map(_latency, (row.p50_ms, row.p95_ms, row.p99_ms))
        table.add_row(Text(row.answered_by, COLOURS[row.answered_by]), _rate(row.per_s), _share(row.share), *latencies)
    return table


def _tiers(snapshot: Snapshot) -> Table:
    table = figures_table("tier", "tasks/s", "done/s", "split", "tokens/s", "gen P50", "gen P95", "$/h")
    for row in snapshot.tiers:
        table.add_row(
            row.tier,
            _rate(row.tasks_per_s),
            _rate(row.answers_per_s),
            _share(row.split),
            _rate(row.tokens_per_s),
            _latency(row.p50_ms),
            _latency(row.p95_ms),
            money(row.spent_per_h),
        )
    return table


def _topics(snapshot: Snapshot) -> Table:
    table = figures_table("topic", "lag", "in/s")
    for row in snapshot.topics or ():
        table.add_row(row.topic, f"{row.lag:,}", _rate(row.written_per_s), style="" if row.lag else "dim")
    if snapshot.topics is None:
        table.add_row(Text("kafka is away", "red"), _UNKNOWN, _UNKNOWN)
    return table


def _parts(snapshot: Snapshot) -> Table:
    table = figures_table("part", "at", "", "in flight", "held", "unwritten", "up for")
    table.columns[1].justify = table.columns[2].justify = "left"
    for part in snapshot.parts:
        state = Text("up", "green") if part.up else Text("away", "bold red")
        up_for = "" if part.up_for_s is None else str(timedelta(seconds=round(part.up_for_s)))
        counts = map(_count, (part.inflight, part.held, part.unwritten))
        table.add_row(part.name, Text(part.address or ""), state, *counts, up_for)
    return table


def _troubles(snapshot: Snapshot) -> RenderableType:
    if not snapshot.troubles:
        return Text("no errors, dead letters or escalations at the parts that answer", "dim")
    table = figures_table("trouble", "", f"in {snapshot.window_s:.0f} s", "since start")
    table.columns[1].justify = "left"
    for row in snapshot.troubles:
        recent = _UNKNOWN if row.recent is None else f"{row.recent:,.0f}"
        table.add_row(row.what, Text(row.which), recent, f"{row.total:,.0f}", style="yellow" if row.recent else "")
    return table


def _stacked(*tables: RenderableType) -> Group:
    return Group(*(each for table in tables for each in (table, Text())))


def _rate(per_s: float | None) -> str:
    if not per_s:
        return _UNKNOWN if per_s is None else "0"
    return f"{per_s:.2f}" if per_s < 9.995 else f"{per_s:.1f}" if per_s < 99.95 else f"{per_s:,.0f}"


def _share(share: float | None) -> str:
    return _UNKNOWN if share is None else f"{share:.0%}"


def _latency(ms: float | None) -> str:
    return f"> {_LONGEST_MS / 1000:.0f} s" if ms is not None and ms >= _LONGEST_MS else duration(ms)


def _count(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}"
