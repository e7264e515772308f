"""A comparison as one HTML page that loads nothing."""

from collections.abc import Sequence

from markupsafe import Markup

from ..reporting.templates import fill
from . import plots
from .compare import Comparison
from .tables import table


def page(comparisons: Sequence[Comparison]) -> str:
    """The text of the page."""
    return fill("forebay_ops.evaluation", "page.html.jinja", streams=[_stream(one) for one in comparisons])


def _stream(comparison: Comparison) -> dict[str, object]:
    deltas = sorted({course.delta for course in comparison.courses})
    return {
        "table": table(comparison),
        "curve": Markup(plots.curve(comparison)),  # matplotlib escapes the names in it
        "courses": [
            {"delta": delta, "hits": Markup(plots.hits(courses)), "errors": Markup(plots.errors(courses))}
            for delta in deltas
            if (courses := [course for course in comparison.courses if course.delta == delta])
        ],
    }
