"""`forebay warm`: fills the caches ahead, on the batch lane."""

import datetime as dt
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import click
from forebay_client import Client
from forebay_schemas.config import Config
from forebay_schemas.records import Request
from rich.console import Console

from ..request_log import requests_since
from ..warming.journal import Journal
from ..warming.run import Limits, Warming
from ..warming.sieve import Sieve, Wanted
from ..warming.sources import most_asked, requests_of
from .interrupts import stoppable
from .moments import Moment
from .options import cli_config
from .progress import ConsoleProgress
from .warm_tables import Pace, show

_POSITIVE = click.FloatRange(min=0, min_open=True)
_HISTORY_JOURNAL = Path("history.warming")

Source = Callable[[], Iterable[Request]]
"""Gives the same requests each time."""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--history", is_flag=True, help="Take what was asked most, from the request topics, in place of a FILE.")
@click.option("--top", default=1000, show_default=True, type=click.IntRange(min=1), help="With --history: how many.")
@click.option("--since", type=Moment(whole_day=False), help="With --history: from here; else all that Kafka has.")
@click.option("--tenant", help="Of a FILE: whose requests they are, where a line does not say. With --history: only "
              "this tenant's.")  # fmt: skip
@click.option("--refresh", is_flag=True, help="Generate also what is cached, and keep the new answers.")
@click.option("--in-flight", default=200, show_default=True, type=click.IntRange(min=1),
              help="Most requests that are awaited at once.")  # fmt: skip
@click.option("--max-usd", type=_POSITIVE, help="Most US dollars to spend; nothing is sent that could go beyond.")
@click.option("--within", "within_h", default=24.0, show_default=True, type=click.FloatRange(0, 720, min_open=True),
              help="Hours after which nothing is awaited any more; also the deadline of the requests.")  # fmt: skip
@click.option("--timeout", "patience_s", default=900.0, show_default=True, type=_POSITIVE,
              help="Give up when no reply has come for so many seconds.")  # fmt: skip
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path),
              help=f"Where it is noted what is answered; else FILE.warming, or {_HISTORY_JOURNAL}.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be asked, and ask nothing.")
def warm(
    file: Path | None,
    history: bool,
    top: int,
    since: dt.datetime | None,
    tenant: str | None,
    refresh: bool,
    in_flight: int,
    max_usd: float | None,
    within_h: float,
    patience_s: float,
    journal: Path | None,
    dry_run: bool,
) -> None:
    """Fill the caches with the answers to the requests in FILE, or to those that were asked most.

    They are asked on the batch lane, at its price, whatever lane they name. What is cached already costs nothing. What
    may not be reused is not asked: it would cost, and serve nobody. FILE has lines as `forebay send` takes them, plain
    or gzip; all of them are checked before the first is sent.

    \b
      forebay warm questions.jsonl --tenant acme
      forebay warm --history --since 7d --top 500 --max-usd 2
      forebay warm questions.jsonl --refresh --dry-run

    Ctrl-C takes back what is unanswered. The same command again goes on from there, also after a crash: what is
    answered is noted beside FILE, and the note is removed when all is done. The exit code is 1 where something is left
    or failed.
    """
    if history == (file is not None):
        raise click.UsageError("give a FILE of requests or --history, one of the two")
    if since and not history:
        raise click.UsageError("--since belongs to --history; leave it out, or leave FILE out")
    config = cli_config()
    note = journal or (file.with_name(f"{file.name}.warming") if file else _HISTORY_JOURNAL)
    console = Console()
    with stoppable() as stopped, ConsoleProgress(Console(stderr=True)) as progress:

        def told(what: str) -> None:
            if stopped():
                raise click.Abort
            progress.counting(what)

        source = partial(requests_of, file, tenant, config) if file else _history(config, since, top, tenant, told)
        with Journal(note, refresh) as noted:
            planned = Sieve(config, noted.answered)
            for number, _ in enumerate(_sifted(source, planned), start=1):
                told(f"{number:,} requests checked")
            if dry_run:
                show(console, planned)
                return
            limits = Limits(
                in_flight=in_flight,
                until_s=time.time() + 3600 * within_h,
                patience_s=patience_s,
                max_usd=max_usd,
            )
            with Client(config=config) as client:
                warming = Warming(
                    client, config, noted, limits, refresh=refresh, told=Pace(progress, planned.passed), stopped=stopped
                )
                try:
                    why = warming.run(_sifted(source, Sieve(config, noted.answered)))
                finally:
                    show(console, planned, warming.tally)
            noted.finished = why is None and not warming.tally.failed
    if noted.finished:
        return
    if why:
        click.secho(f"ended early: {why}", fg="red", err=True)
    click.echo("the same command again goes on from here", err=True)
    if stopped():
        raise click.Abort
    sys.exit(1)


def _history(
    config: Config, since: dt.datetime | None, top: int, tenant: str | None, told: Callable[[str], None]
) -> Source:
    since_ms = None if since is None else round(since.replace(tzinfo=dt.UTC).timestamp() * 1000)
    found = most_asked(lambda: requests_since(config, since_ms), config, top, tenant, told)
    share = f" ({found.covered / found.seen:.1%})" if found.seen else ""
    click.echo(
        f"{found.seen:,} requests in the history; the {len(found.requests):,} that were asked most, each more than"
        f" once, are {found.covered:,} of them{share}; {found.useless:,} may not be reused",
        err=True,
    )
    return lambda: found.requests


def _sifted(source: Source, sieve: Sieve) -> Iterator[Wanted]:
    return filter(None, map(sieve.take, source()))
