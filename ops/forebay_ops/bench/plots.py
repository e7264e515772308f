"""The plots of the benchmarks: for each figure, the sides beside each other."""

from collections.abc import Sequence

import matplotlib as mpl

from ..reporting.drawing import STYLE, axes_of, svg_of
from .harness import Figure

_BASELINE, _OTHERS, _SPREAD = "#9aa4b1", "#0b6e8f", "#1d2630"
_BAR_INCHES, _AROUND_INCHES = 0.26, 0.45


def sides(figures: Sequence[Figure]) -> str:
    """One metric: a bar for the median of each side, the baseline first, and a line from the least to the most."""
    with mpl.rc_context(STYLE):
        figure, axes = axes_of(height=_AROUND_INCHES + _BAR_INCHES * len(figures), width=5.2)
        medians = [one.median for one in figures]
        spread = [[one.median - one.low for one in figures], [one.high - one.median for one in figures]]
        colours = [_OTHERS if place else _BASELINE for place in range(len(figures))]
        axes.barh([one.side for one in figures], medians, color=colours, height=0.62)
        axes.errorbar(medians, range(len(figures)), xerr=spread, fmt="none", ecolor=_SPREAD, elinewidth=0.9, capsize=2)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.set_xlim(left=min(0.0, *(one.low for one in figures)))
        return svg_of(figure)
