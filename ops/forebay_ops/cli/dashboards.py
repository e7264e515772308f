"""`forebay dashboards`: what Grafana would show, without a Grafana."""

import datetime as dt
from pathlib import Path

import click
from rich.console import Console

from ..dashboards.asking import Prometheus, Window
from ..dashboards.boards import boards
from ..dashboards.page import page
from .moments import Moment, now
from .progress import ConsoleProgress


@click.command()
@click.option("--prometheus", "url", default="http://localhost:9090", show_default=True, help="Address of the server.")
@click.option("--since", default="1h", show_default=True, type=Moment(), help="From here to now.")
@click.option("--scraped-every", "scrape_s", default=10.0, show_default=True, type=click.FloatRange(min=0.1),
              help="Seconds between Prometheus' scrapes.")  # fmt: skip
@click.option("--out", default="dashboards.html", show_default=True, help="File for the page.",
              type=click.Path(dir_okay=False, writable=True, path_type=Path))  # fmt: skip
def dashboards(url: str, since: dt.datetime, scrape_s: float, out: Path) -> None:
    """Draw the Grafana dashboards of this version from a Prometheus, as one page that loads nothing.

    For where there is no Grafana, and to keep or hand on what an hour looked like. The panels, their expressions and
    units are those of ops/grafana/dashboards.

    \b
      forebay dashboards --prometheus http://localhost:9090 --since 6h --out monday.html
    """
    until = now()
    seconds = (until - since).total_seconds()
    if seconds < scrape_s:
        raise click.UsageError("--since: less than one scrape lies between it and now; give an earlier time")
    console = Console(stderr=True)
    with ConsoleProgress(console) as progress:
        out.write_text(page(list(boards()), Prometheus(url), Window(until, seconds, scrape_s), progress.doing), "utf-8")
        progress.done(f"wrote {out}")
