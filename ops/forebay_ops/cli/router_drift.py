"""`forebay router drift`: how often requests are routed to a tier that answers otherwise than the one above."""

import datetime as dt
import sys

import click
from rich.console import Console
from rich.text import Text

from ..outcomes.drift import MOST, Error, errors
from ..outcomes.reading import read_outcomes
from ..outcomes.standing import Standing
from ..rollouts.moving import known_rollouts
from .exits import FOUND
from .moments import Moment
from .options import cli_config
from .tables import figures_table

_COLOURS = {"within": "green", "above": "red", "unsure": "yellow"}


@click.command()
@click.option(
    "--since", type=Moment(), default="30d", show_default=True, help="From when on; a span, or a time in UTC."
)
@click.option("--by-tier", is_flag=True, help="Tell the tiers of a category apart.")
@click.option("--by-scorer", is_flag=True, help="Tell apart what learned weights routed, and what rules did.")
@click.option("--most", type=click.FloatRange(min=0, max=1, min_open=True, max_open=True), default=MOST,
              show_default=True, help="Share of errors that is still well.")  # fmt: skip
def drift(since: dt.datetime, by_tier: bool, by_scorer: bool, most: float) -> None:
    """Show how often a tier's answer differs from the next larger tier's, by category, as audits found.

    The share counts each audit for as many answers as it stands for, and comes with its 95 % interval. What the judge
    could not tell, and answers that went on to another tier by themselves, stand beside it. Categories without settings
    of their own are one, and what rollouts change for some is left out. The exit code is 3 where a category with at
    least 30 audits is surely above --most, and 1 where nothing could be measured:

    \b
      forebay router drift --since 7d
      forebay router drift; test $? -eq 3 && forebay router retrain
    """
    config = cli_config()
    audits = read_outcomes(config, round(since.replace(tzinfo=dt.UTC).timestamp() * 1000)).audits
    found = errors(audits, Standing(config, known_rollouts(config)), by_tier, by_scorer)
    if not found:
        raise click.ClickException(
            "no answer that was routed as all are now was audited in this time; with audits.share every hundredth is,"
            " so give another --since, or wait"
        )
    by = ["category", *(["tier"] if by_tier else []), *(["scorer"] if by_scorer else [])]
    table = figures_table(", ".join(by), "audits", "differ", "error", "95 % interval",
                          "untold", "escalated", "")  # fmt: skip
    for error in found:
        table.add_row(*_row(error), Text(error.finding(most), style=_COLOURS[error.finding(most)]))
    Console(highlight=False).print(table)
    if any(error.finding(most) == "above" for error in found):
        sys.exit(FOUND)


def _row(error: Error) -> tuple[str, ...]:
    share = error.share
    told = ("-", "-") if share is None else (f"{share.mean:.1%}", f"{share.low:.1%} to {share.high:.1%}")
    return error.name, str(error.judged), str(error.differ), *told, str(error.untold), str(error.escalated)
