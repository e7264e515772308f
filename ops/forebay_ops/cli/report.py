"""`forebay report`: where the money went, and what saved it."""

import datetime as dt
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ..reporting.page import page
from ..reporting.query import DIMENSIONS, query
from ..reporting.tables import tables
from .moments import Moment, now
from .options import cli_config, stopped_stack
from .report_tables import LEAST_WIDTH, show_table


class _Dimensions(click.ParamType):
    name = "NAME,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(str(value).split(",")))
        for name in names:
            if name not in DIMENSIONS:
                self.fail(f"{name!r} is nothing to group by; use some of {', '.join(DIMENSIONS)}", param, ctx)
        return names


@click.command()
@click.option("--since", type=Moment(whole_day=False), help="From here; else from the beginning.")
@click.option("--until", type=Moment(whole_day=True), help="Up to here, a date with the whole day; else up to now.")
@click.option("--by", type=_Dimensions(), multiple=True, help="Totals of each combination; once for each table.")
@click.option("--top", default=20, show_default=True, type=click.IntRange(min=1), help="Most rows of a table.")
@click.option(
    "--out",
    default="report.html",
    show_default=True,
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="File for the page with the plots.",
)
def report(
    since: dt.datetime | None, until: dt.datetime | None, by: tuple[tuple[str, ...], ...], top: int, out: Path
) -> None:
    """Show what the ledger tells: spend, savings by means, hit rates, tiers, latencies, feedback.

    Prints tables, and writes a page with plots that loads nothing from elsewhere. The ledger has to have run while the
    replies came: `forebay up` runs one, whose files can be read after `forebay down` too. Totals can be had by tenant,
    endpoint, user, category, lane, tier, model, cache, day, month and hour (of the day, UTC).

    \b
      forebay report --since 7d
      forebay report --since 2026-11-01 --until 2026-11-30 --by endpoint,tenant --by hour
    """
    console = Console()
    console.width = max(console.width, LEAST_WIDTH)
    config = cli_config(otherwise=stopped_stack())
    fixed_monthly = config.costs.fixed_monthly_usd
    found = query(
        config.ledger.folder, since=since, until=until, by=by, top=top, now=now(), fixed_monthly=fixed_monthly
    )
    for table in tables(found):
        show_table(console, table)
    console.print(
        f"{found.totals.replies + found.repeats:,} replies of {found.first:%Y-%m-%d %H:%M} to"
        f" {found.last:%Y-%m-%d %H:%M} UTC, in {found.files:,} files, added up in {found.query_s:.2f} s",
        highlight=False,
    )
    began = time.perf_counter()
    out.write_text(page(found, "Forebay: where the money went"), "utf-8")
    console.print(f"wrote {out} in {time.perf_counter() - began:.1f} s", highlight=False, markup=False)
