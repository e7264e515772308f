"""The plots of an evaluation."""

import matplotlib as mpl
from matplotlib.ticker import PercentFormatter

from ..reporting.drawing import STYLE, axes_of, legend, svg_of
from .evaluation import FIVE_FOLD, LEARNED, Evaluation, Measured

_LOT = "#9aa4b1"
_LENGTH = "#e0a458"
_FOLDS = "#0b6e8f"
_ACROSS = "#c8553d"


def accuracy(evaluation: Evaluation, dataset: str) -> str:
    """Accuracy against the share of strong calls, on one data set."""
    shown = [one for one in evaluation.measured if one.dataset == dataset]
    with mpl.rc_context(STYLE):
        figure, axes = axes_of(height=3.4)
        axes.plot([0, 1], [shown[0].weak, shown[0].strong], color=_LOT, linestyle=(0, (3, 2)), label="by lot")
        for one in reversed(shown):
            axes.plot(one.curve.share, one.curve.accuracy, color=_colour(one), label=_label(one), linewidth=1.4)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.set_xlim(0, 1)
        axes.set_xlabel(f"calls to {evaluation.strong}")
        axes.set_ylabel("good answers")
        legend(axes)
        return svg_of(figure)


def _colour(one: Measured) -> str:
    return _LENGTH if one.way != LEARNED else _FOLDS if one.learned_on == FIVE_FOLD else _ACROSS


def _label(one: Measured) -> str:
    return one.way if one.way != LEARNED else f"learned on {one.learned_on}"
