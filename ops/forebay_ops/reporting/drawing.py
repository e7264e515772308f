"""What all plots share: the style, the size, and how a figure becomes the text of an SVG that needs nothing else."""

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: the reader's own font, a tenth of the size
    "text.parse_math": False,  # a name with dollars in it is no formula
    "svg.hashsalt": "forebay",  # the same figures give the same file
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # what the text is measured with; it comes with matplotlib
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#b8bec6",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "xtick.color": "#4a5563",
    "ytick.color": "#4a5563",
    "xtick.bottom": False,
    "ytick.left": False,
    "legend.frameon": False,
    "axes.titlesize": 9,
}


def axes_of(height: float = 2.5, width: float = 7.2) -> tuple[Figure, Axes]:
    """An empty plot; inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def legend(axes: Axes) -> None:
    """What the colours mean, above the plot."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=6, borderaxespad=0.2, handlelength=1.4)


def svg_of(figure: Figure) -> str:
    """The text of the SVG."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")), transparent=True)
    text = out.getvalue()
    return text[text.index("<svg") :]
