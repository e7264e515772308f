"""The benchmarks of one run as one HTML page that loads nothing."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from markupsafe import Markup

from ..figures import minutes
from ..reporting.templates import fill
from . import plots
from .report import COLUMNS, Report, rows


def page(reports: Sequence[Report], failed: Mapping[str, str], took_s: float) -> str:
    """The text of the page.

    Args:
        failed: what ended other benchmarks before their figures were there, by name.
        took_s: until now, all of them together.
    """
    shown = [
        {"report": report, "columns": COLUMNS, "rows": rows(report), "plots": _plots(report)} for report in reports
    ]
    return fill(
        "forebay_ops.bench",
        "page.html.jinja",
        shown=shown,
        failed=failed,
        machine=reports[0].machine,
        took=minutes(took_s),
    )


def _plots(report: Report) -> list[tuple[str, Markup]]:
    """One for each metric that several sides have; matplotlib escapes the names in it."""
    by_metric = [list(group) for _, group in groupby(report.figures, key=lambda one: one.metric)]
    return [(group[0].metric, Markup(plots.sides(group))) for group in by_metric if len(group) > 1]
