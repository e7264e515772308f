"""Dashboards as one HTML page that loads nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..reporting.templates import fill
from .asking import Line, Prometheus, Window
from .boards import Board, Panel
from .plots import colour_of, timeseries
from .units import text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The last value of a line, as text.

    Attributes:
        colour: of its line, or by the panel's thresholds.
        share: of the greatest of the panel, in [0, 1].
    """

    name: str
    last: str
    most: str
    colour: str
    share: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """A panel with what it shows; nothing where Prometheus has nothing."""

    panel: Panel
    figures: Sequence[Figure]
    plot: Markup


def page(boards: Sequence[Board], prometheus: Prometheus, window: Window, told: Callable[[str], None]) -> str:
    """The text of the page.

    Args:
        told: is told what is being asked for.

    Raises:
        ForebayError: the server does not answer, or does not accept an expression.
    """
    drawn: dict[str, list[Drawn]] = {}
    for board in boards:
        told(f"drawing {board.title}")
        drawn[board.title] = [_drawn(panel, prometheus, window) for panel in board.in_order()]
    return fill("forebay_ops.dashboards", "page.html.jinja", boards=drawn, window=window)


def _drawn(panel: Panel, prometheus: Prometheus, window: Window) -> Drawn:
    lines = [line for query in panel.targets for line in prometheus.lines(query, window) if line.there]
    lines.sort(key=lambda line: -max(line.there))
    largest = max((abs(line.there[-1]) for line in lines), default=0.0)
    figures = [_figure(panel, number, line, largest) for number, line in enumerate(lines)]
    plot = timeseries(panel, lines, window.times) if lines and panel.type == "timeseries" else ""
    return Drawn(panel, figures, Markup(plot))  # matplotlib escapes the names in it


def _figure(panel: Panel, number: int, line: Line, largest: float) -> Figure:
    last, shown = line.there[-1], panel.shown
    passed = [step.color for step in shown.thresholds.steps if step.value is None or last >= step.value]
    return Figure(
        name=line.name,
        last=text_of(last, shown),
        most=text_of(max(line.there), shown),
        colour=passed[-1] if passed else colour_of(number),
        share=abs(last) / largest if largest else 0.0,
    )
