"""An evaluation as one HTML page that loads nothing."""

from markupsafe import Markup

from ..reporting.templates import fill
from . import plots
from .evaluation import Evaluation
from .tables import table, timing


def page(evaluation: Evaluation) -> str:
    """The text of the page."""
    datasets = dict.fromkeys(one.dataset for one in evaluation.measured)
    return fill(
        "forebay_ops.routing",
        "page.html.jinja",
        table=table(evaluation),
        timing=timing(evaluation),
        plots=[(name, Markup(plots.accuracy(evaluation, name))) for name in datasets],  # matplotlib escapes names
    )
