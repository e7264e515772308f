"""The report as one HTML page that loads nothing."""

from importlib.resources import files

import jinja2
from markupsafe import Markup

from . import plots
from .query import Report
from .tables import Table, tables


def page(report: Report, title: str) -> str:
    """The text of the page."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files("forebay_ops.reporting").joinpath("page.html.jinja").read_text("utf-8"))
    shown: dict[str, list[Table]] = {}
    for table in tables(report):
        shown.setdefault(table.name, []).append(table)
    return template.render(report=report, title=title, tables=shown, plots=_plots(report))


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
