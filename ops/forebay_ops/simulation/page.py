"""A simulation as one HTML page that loads nothing."""

from markupsafe import Markup

from ..reporting.templates import fill
from . import plots
from .outcome import PRESENT, WHAT_IF, Outcome
from .tables import tables

_MOST_PLOTS = 12


def page(outcome: Outcome, title: str) -> str:
    """The text of the page."""
    present = WHAT_IF if WHAT_IF in outcome.sides else PRESENT
    drawn = {
        front.category: Markup(plots.cost_against_loss(front, present, outcome.max_loss))
        for front in outcome.fronts[:_MOST_PLOTS]
    }
    requests = next(iter(outcome.totals.values())).requests
    return fill(
        "forebay_ops.simulation",
        "page.html.jinja",
        outcome=outcome,
        title=title,
        requests=requests,
        present=present,
        tables=tables(outcome),
        plots=drawn,
    )
