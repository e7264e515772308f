"""`forebay top`: what the pipeline does now."""

import signal
import sys
import time

import click
import msgspec
from rich.console import Console

from ..top.look import Looker
from ..top.snapshot import snapshot
from .options import cli_config
from .top_screen import watch
from .top_tables import overview


@click.command()
@click.option(
    "--every", "every_s", default=2.0, show_default=True, type=click.FloatRange(min=0.2), help="Seconds between looks."
)
@click.option(
    "--window",
    "window_s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Seconds over which rates and percentiles are taken.",
)
@click.option("--once", is_flag=True, help="Look twice, --every seconds apart, print what there is, and end.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON; what nobody tells is null.")
def top(every_s: float, window_s: float, once: bool, as_json: bool) -> None:
    """Show what the pipeline does now: rates, hits, tiers, lag, latencies, spend and what goes wrong.

    The figures come from the parts themselves, those that Prometheus would scrape, and the lag from Kafka. A part that
    does not answer is away; figures that only it could tell are then `-`, and not zero. Latencies are those of the
    interactive lane, `gen` the time of one generation, and lag what is behind the reader's commits.

    \b
      q        quit
      p        pause, and go on
      up, down the rest, where the terminal is too low for all of it

    The local stack is found by itself, another installation by its configuration (metrics.job_targets,
    metrics.worker_targets, metrics.ledger_targets). Without a terminal, --once and --json print one look; the exit
    code is 1 where a part is away.

    \b
      forebay top
      forebay top --once --every 30
      forebay top --json | jq '.answers[] | {answered_by, per_s, p95_ms}'
    """
    config = cli_config()
    console = Console()
    if not (once or as_json):
        if not (console.is_terminal and sys.stdin.isatty()):
            raise click.UsageError("there is no terminal to draw on; --once or --json print one look")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it, too, leaves the terminal as it was
        watch(console, config, every_s, window_s)
        return
    looker = Looker(config)
    looks = [looker.look()]
    time.sleep(every_s)
    looks.append(looker.look())
    found = snapshot(looks, config)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        console.print(overview(found, console))
    if not all(part.up for part in found.parts):
        sys.exit(1)
