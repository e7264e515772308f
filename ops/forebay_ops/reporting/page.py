"""The report as one HTML page that loads nothing."""

from markupsafe import Markup

from . import plots
from .query import Report
from .tables import Table, tables
from .templates import fill


def page(report: Report, title: str) -> str:
    """The text of the page."""
    shown: dict[str, list[Table]] = {}
    for table in tables(report):
        shown.setdefault(table.name, []).append(table)
    return fill(
        "forebay_ops.reporting", "page.html.jinja", report=report, title=title, tables=shown, plots=_plots(report)
    )


def _plots(report: Report) -> dict[str, Markup]:
    tiers = [group.key[0] for group in report.tiers.groups]
    drawn = {
        "spend": plots.spend(report.days, report.projection),
        "layers": plots.saved_by_layer(report.totals),
        "hit_rates": plots.hit_rates(report.days),
        "statuses": plots.latencies(report.by_status) if report.by_status else "",
        "models": plots.latencies(report.by_model) if report.by_model else "",
        "tiers": plots.tier_split(report.tiers_by_day, tiers) if tiers else "",
        "months": plots.cost_per_1k(report.months),
        "disliked": plots.thumbs_down(report.disliked) if report.disliked else "",
        "rated": plots.thumbs_down(report.rated) if report.rated else "",
    }
    return {name: Markup(svg) for name, svg in drawn.items()}  # matplotlib escapes the names in it
