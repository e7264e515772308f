"""Draws the lines of a panel."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..reporting.drawing import STYLE, axes_of, svg_of
from .asking import Line
from .boards import Panel
from .units import text_of

_COLOURS = (
    "#0b6e8f", "#e0a458", "#3a9d6e", "#c8553d", "#7d5ba6", "#9ccbe0", "#8a8f98", "#b5838d", "#606c38", "#1d3557",
)  # fmt: skip
_INCHES_A_COLUMN, _INCHES_A_ROW = 0.55, 0.26


def colour_of(number: int) -> str:
    """That of a panel's line."""
    return _COLOURS[number % len(_COLOURS)]


def timeseries(panel: Panel, lines: Sequence[Line], times: Sequence[dt.datetime]) -> str:
    """The lines of a panel over time, as the text of an SVG."""
    place, shown = panel.grid_pos, panel.shown
    at: list[Any] = list(times)  # matplotlib takes times, its types do not say so
    with mpl.rc_context(STYLE):
        figure, axes = axes_of(height=place.h * _INCHES_A_ROW, width=place.w * _INCHES_A_COLUMN)
        colours = [colour_of(number) for number in range(len(lines))]
        if shown.stacked:
            axes.stackplot(at, np.nan_to_num([line.values for line in lines]), colors=colours, alpha=0.75, linewidth=0)
        else:
            for line, colour in zip(lines, colours, strict=True):
                axes.plot(at, line.values, color=colour, linewidth=1.4)
        axes.set_xlim(at[0], at[-1])
        locator = AutoDateLocator(minticks=3, maxticks=7)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        if shown.logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # a decade alone may hold all values and no power
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.margins(y=0.5)
        else:
            axes.set_ylim(shown.min, shown.max)
            axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text_of(value, shown)))
        return svg_of(figure)
