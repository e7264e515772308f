"""The plots of a report, each as the text of an SVG that needs nothing else."""

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DayLocator
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from ..figures import duration, money
from .drawing import STYLE, axes_of, legend, svg_of
from .feedback import Verdicts
from .outlook import Projection
from .query import Latencies
from .sums import Sums, layers

_SIDEWAYS: dict[Any, Any] = {**STYLE, "axes.grid.axis": "x"}
_BASELINE, _SPENT, _SAVED, _LOST = "#9aa4b1", "#0b6e8f", "#3a9d6e", "#c8553d"
_TIERS = ("#9ccbe0", "#3f93b8", "#0b4f6c", "#e0a458", "#7d5ba6", "#8a8f98")
_KINDS = {"exact": "#3a9d6e", "semantic": "#0b6e8f", "joined": "#e0a458"}
_PROJECTED_SHOWN_DAYS = 7
_LEAST_MS = 0.1
_LEAST_DAYS = 6

Days = Sequence[tuple[dt.date, Sums]]


def spend(days: Days, projection: Projection | None) -> str:
    """US dollars a day against the baseline, and a week of the projection."""
    with mpl.rc_context(STYLE):
        figure, axes = axes_of(width=14)  # as wide as two of the others
        dates: list[Any] = [day for day, _ in days]
        ahead = range(1, _PROJECTED_SHOWN_DAYS + 1) if projection else ()
        to_come: list[Any] = [dates[-1] + dt.timedelta(days=number) for number in ahead]
        for label, colour, values, pace in (
            ("largest tier", _BASELINE, [sums.baseline_cost for _, sums in days], "baseline_cost"),
            ("spent", _SPENT, [sums.cost for _, sums in days], "cost"),
        ):
            axes.plot(dates, values, color=colour, label=label, **_dots(dates))
            if projection:
                level = [getattr(projection, pace)] * len(to_come)
                axes.plot(to_come, level, color=colour, linestyle=(0, (3, 2)), label=f"{label}, projected")
        _dated(axes, dates + to_come)
        _in_money(axes)
        legend(axes)
        return svg_of(figure)


def hit_rates(days: Days) -> str:
    """The share of requests that were answered again, by day and kind."""
    with mpl.rc_context(STYLE):
        figure, axes = axes_of()
        dates: list[Any] = [day for day, _ in days]
        for kind, colour in _KINDS.items():
            shares = [sums.share(getattr(sums, kind)) for _, sums in days]
            axes.plot(dates, shares, color=colour, label=kind, **_dots(dates))
        _dated(axes, dates)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        legend(axes)
        return svg_of(figure)


def tier_split(tiers_by_day: Sequence[tuple[dt.date, str, int]], tiers: Sequence[str]) -> str:
    """The share of each tier among the generated answers, by day."""
    with mpl.rc_context(STYLE):
        figure, axes = axes_of()
        counts: defaultdict[dt.date, dict[str, int]] = defaultdict(dict)
        for day, tier, count in tiers_by_day:
            counts[day][tier] = count
        dates: list[Any] = list(counts)  # matplotlib takes dates, its types do not say so
        below = [0.0] * len(dates)
        for number, tier in enumerate(tiers):
            shares = [counts[day].get(tier, 0) / sum(counts[day].values()) for day in dates]
            axes.bar(dates, shares, bottom=below, width=0.85, color=_TIERS[number % len(_TIERS)], label=tier)
            below = [low + share for low, share in zip(below, shares, strict=True)]
        _dated(axes, dates)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        legend(axes)
        return svg_of(figure)


def latencies(rows: Sequence[Latencies]) -> str:
    """P50, P95 and P99 of each row, on a logarithmic scale."""
    with mpl.rc_context(_SIDEWAYS):
        figure, axes = axes_of(height=0.55 + 0.3 * len(rows))
        places = range(len(rows) - 1, -1, -1)
        axes.hlines(places, _on_scale([row.p50_ms for row in rows]), _on_scale([row.p99_ms for row in rows]),
                    colors="#c9d3dc", linewidth=3)  # fmt: skip
        for label, colour, values in (
            ("P50", _SAVED, [row.p50_ms for row in rows]),
            ("P95", _SPENT, [row.p95_ms for row in rows]),
            ("P99", _LOST, [row.p99_ms for row in rows]),
        ):
            axes.scatter(_on_scale(values), places, color=colour, s=28, label=label, zorder=2)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(places, [row.name for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        legend(axes)
        return svg_of(figure)


def thumbs_down(rows: Sequence[tuple[str, Verdicts]]) -> str:
    """The share of thumbs down of each row, and where it surely lies."""
    with mpl.rc_context(_SIDEWAYS):
        figure, axes = axes_of(height=0.55 + 0.3 * len(rows))
        places = range(len(rows) - 1, -1, -1)
        shares = [share for _, verdicts in rows if (share := verdicts.down_share)]
        axes.hlines(places, [share.low for share in shares], [share.high for share in shares],
                    colors="#c9d3dc", linewidth=3, label="95% interval")  # fmt: skip
        axes.scatter([share.mean for share in shares], places, color=_LOST, s=28, label="thumbs down", zorder=2)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.set_yticks(places, [name for name, _ in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        legend(axes)
        return svg_of(figure)


def saved_by_layer(totals: Sums) -> str:
    """From the baseline to what was spent, one layer after the other."""
    with mpl.rc_context(_SIDEWAYS):
        shown = [layer for layer in layers(totals) if layer.saved]
        figure, axes = axes_of(height=0.5 + 0.3 * (len(shown) + 2))
        names = ["largest tier", *(layer.name for layer in shown), "spent"]
        left = totals.baseline_cost
        spans = [(0.0, left, _BASELINE)]
        for layer in shown:
            spans.append((left - layer.saved, layer.saved, _SAVED if layer.saved > 0 else _LOST))
            left -= layer.saved
        spans.append((0.0, totals.cost, _SPENT))
        for place, (start, length, colour) in enumerate(spans):
            axes.barh(len(spans) - 1 - place, length, left=start, color=colour, height=0.62)
        axes.set_yticks(range(len(names)), names[::-1])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: money(value)))
        axes.locator_params(axis="x", nbins=6)
        return svg_of(figure)


def cost_per_1k(months: Sequence[tuple[str, Sums]]) -> str:
    """US dollars per thousand requests by month, against the baseline."""
    with mpl.rc_context(STYLE):
        figure, axes = axes_of()
        places = range(len(months))
        for label, colour, shift, values in (
            ("largest tier", _BASELINE, -0.2, [sums.baseline_per_1k for _, sums in months]),
            ("spent", _SPENT, 0.2, [sums.cost_per_1k for _, sums in months]),
        ):
            axes.bar([place + shift for place in places], [value or 0.0 for value in values], 0.38,
                     color=colour, label=label)  # fmt: skip
        axes.set_xticks(places, [month for month, _ in months])
        axes.set_xlim(-0.6, max(5.4, len(months) - 0.4))  # one month is no wall
        _in_money(axes)
        legend(axes)
        return svg_of(figure)


def _on_scale(times_ms: Sequence[float]) -> list[float]:
    """A logarithm has no zero: what took no time is shown with the least."""
    return [max(_LEAST_MS, time_ms) for time_ms in times_ms]


def _dots(dates: Sequence[dt.date]) -> dict[str, Any]:
    """Few days are dots too: a line through one is nothing."""
    return {"marker": "o", "markersize": 4} if len(dates) < 15 else {}


def _dated(axes: Axes, dates: Sequence[dt.date]) -> None:
    """Days below the plot: a few at least, so that one is neither a wall nor lost among years."""
    half, last = dt.timedelta(hours=14), max(dates[-1], dates[0] + dt.timedelta(days=_LEAST_DAYS - 1))
    left, right = (dt.datetime.combine(day, dt.time()) for day in (dates[0], last))
    edges: Any = (left - half, right + half)  # matplotlib takes times, its types do not say so
    axes.set_xlim(*edges)
    locator = AutoDateLocator(minticks=2, maxticks=9) if last == dates[-1] else DayLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _in_money(axes: Axes) -> None:
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: money(value)))
