"""The plot of one category: what settings cost against what they lose."""

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from ..figures import money
from ..reporting.drawing import STYLE, axes_of, legend, svg_of
from .figures import Figures
from .recommend import Front
from .sweep import Setting
from .tables import reuse_text

_TRIED, _BEST, _PRESENT, _RECOMMENDED = "#c3ccd5", "#0b6e8f", "#c8553d", "#3a9d6e"
_MOST_NAMED = 8


def cost_against_loss(front: Front, present: str, max_loss: float) -> str:
    """US dollars for a thousand requests against the quality lost, on the first part; what was chosen on both.

    Args:
        present: how the setting that holds is called.
    """
    with mpl.rc_context(STYLE):
        figure, axes = axes_of(height=3.4)
        axes.scatter(*_places([point.first for point in front.points]), s=14, color=_TRIED, label="tried")
        axes.plot(*_places([point.first for point in front.best]), color=_BEST, marker="o", markersize=3.5,
                  label="nothing cheaper is better")  # fmt: skip
        axes.axvline(max_loss, color=_TRIED, linestyle=(0, (3, 2)))
        _named(axes, front)
        for name, point, colour, marker in (
            (present, front.present, _PRESENT, "s"),
            ("recommended", front.recommended, _RECOMMENDED, "D"),
        ):
            (x, x_then), (y, y_then) = _places([point.first, point.second])
            axes.plot([x, x_then], [y, y_then], color=colour, linewidth=0.9, linestyle=(0, (1, 2)), zorder=3)
            axes.scatter([x], [y], s=52, marker=marker, facecolors="white", edgecolors=colour, zorder=4)
            axes.scatter([x_then], [y_then], s=52, marker=marker, color=colour, zorder=4, label=name)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: money(value)))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.set_xlabel("quality lost")
        legend(axes)
        return svg_of(figure)


def _places(figures: list[Figures]) -> tuple[list[float], list[float]]:
    return [each.loss or 0.0 for each in figures], [each.cost_per_1k for each in figures]


def _named(axes: Axes, front: Front) -> None:
    """Names some points of the front, as far from each other that they can be read."""
    losses, _ = _places([point.first for point in front.best])
    apart, last = (max(losses) - min(losses)) / _MOST_NAMED, math.inf
    for point in front.best:
        [x], [y] = _places([point.first])
        if abs(last - x) < apart:
            continue
        last = x
        name = _name(point.setting, [each.setting for each in front.best])
        axes.annotate(name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7.5, color="#4a5563")


def _name(setting: Setting, among: Sequence[Setting]) -> str:
    """What of a setting is not the same in all of them."""
    told: list[str] = []
    if len({each.reuse for each in among}) > 1:
        told.append(reuse_text(setting.reuse))
    if setting.tier:
        told.append(setting.tier)
    elif len({(each.tier, each.bounds) for each in among}) > 1:
        told.append(" / ".join(f"{bound:g}" for bound in setting.bounds))
    return ", ".join(told)
