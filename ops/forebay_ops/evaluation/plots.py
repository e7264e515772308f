"""The plots of a comparison."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from ..reporting.drawing import STYLE, axes_of, legend, svg_of
from .compare import BOUNDED, HINDSIGHT, VCACHE, Comparison, Course

_COLOURS = {BOUNDED: "#0b6e8f", HINDSIGHT: "#9aa4b1", VCACHE: "#e0a458"}
_BOUND = "#c8553d"
_SHOWN_ERRORS = 1.6
"""Of the greatest delta: how far the curve of hits against errors is shown."""


def curve(comparison: Comparison) -> str:
    """Hits against errors: all fixed thresholds as a line, the policies that know delta as points."""
    with mpl.rc_context(STYLE):
        figure, axes = axes_of(height=3.6, width=14)
        thresholds = sorted((errors, hits) for _, hits, errors in comparison.curve)
        axes.plot([one[0] for one in thresholds], [one[1] for one in thresholds], color=_COLOURS[HINDSIGHT],
                  label="fixed thresholds")  # fmt: skip
        deltas = sorted({row.delta for row in comparison.rows if row.delta})
        for policy in (VCACHE, BOUNDED):
            rows = [row for row in comparison.rows if row.policy == policy]
            if rows:
                axes.errorbar([row.errors for row in rows], [row.hits for row in rows],
                              xerr=[row.errors_sd for row in rows], yerr=[row.hits_sd for row in rows],
                              fmt="o", color=_COLOURS[policy], label=policy, capsize=2)  # fmt: skip
        for number, delta in enumerate(deltas):
            axes.axvline(delta, color=_BOUND, linewidth=0.8, linestyle=(0, (3, 2)), label=None if number else "delta")
        shown = _SHOWN_ERRORS * deltas[-1]
        axes.set_xlim(0, shown)
        within = [hits for errors, hits in thresholds if errors <= shown]
        axes.set_ylim(0, 1.15 * max([*within, *(row.hits for row in comparison.rows if row.delta)], default=1.0))
        _share(axes, "x")
        _share(axes, "y")
        axes.set_xlabel("answered wrongly by reuse, of all requests")
        axes.set_ylabel("hits")
        legend(axes)
        return svg_of(figure)


def hits(courses: Sequence[Course]) -> str:
    """Hits over time, of the policies at one delta."""
    with mpl.rc_context(STYLE):
        figure, axes = axes_of()
        for course in courses:
            axes.plot(course.steps, course.hits, color=_COLOURS[course.policy], label=course.policy)
        axes.set_ylim(bottom=0)
        return _over_time(figure, axes)


def errors(courses: Sequence[Course]) -> str:
    """Errors over time, against delta."""
    with mpl.rc_context(STYLE):
        figure, axes = axes_of()
        delta = courses[0].delta
        axes.axhline(delta, color=_BOUND, linewidth=0.8, linestyle=(0, (3, 2)), label="delta")
        for course in courses:
            axes.plot(course.steps, course.errors, color=_COLOURS[course.policy], label=course.policy)
        axes.set_ylim(0, 2.5 * delta)
        return _over_time(figure, axes)


def _over_time(figure: Figure, axes: Axes) -> str:
    _share(axes, "y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("requests")
    legend(axes)
    return svg_of(figure)


def _share(axes: Axes, which: str) -> None:
    (axes.xaxis if which == "x" else axes.yaxis).set_major_formatter(PercentFormatter(1, decimals=None))
