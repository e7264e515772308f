"""`forebay demo`: a support desk's requests played on the local stack, from nothing to the sums."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ForebayError
from rich.console import Console

from ..demo.player import Play, play
from ..demo.script import load_script
from ..demo.sender import KafkaSender
from ..demo.show import Show, show_summary
from ..demo.summary import summarise
from ..local.effective import PROFILE
from ..local.home import Home, running_config
from ..local.stack import Stack
from .progress import ConsoleProgress


class NotAllAnswered(ForebayError):
    """The pipeline fell silent before the last answer."""


@click.command()
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the stack's state and logs; else FOREBAY_HOME, else ./.forebay.",
)
@click.option("--keep", is_flag=True, help="Leave the stack running, to go on with `forebay ask` and `forebay tail`.")
@click.option("--plain", is_flag=True, help="No colours and no bar, as when the output is not a terminal.")
def demo(home: Path | None, keep: bool, plain: bool) -> None:
    """Play the requests of a made-up support desk, and show where each answer comes from.

    Starts the local stack, plays about a hundred requests, adds up what the caches and the smaller tiers saved, and
    stops the stack. One that runs already is used and left running. Each run begins without answers to reuse: its
    requests have a prompt version of their own, so the caches need not be emptied.
    """
    place = Home.at(home)
    console = Console(force_terminal=False, color_system=None) if plain else Console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a CI's timeout stops the stack as Ctrl-C does
    try:
        with _stack(place, console, keep) as config:
            _play(console, config)
    except BaseException:
        if place.logs.is_dir():
            console.print(f"\nThe logs are in {place.logs}", markup=False, highlight=False, soft_wrap=True)
        raise


@contextmanager
def _stack(home: Home, console: Console, keep: bool) -> Iterator[Config]:
    """The configuration of a stack that is up; what was started here is stopped at the end."""
    running = running_config(home)
    stack = Stack(home, load_config(running or os.environ.get("FOREBAY_CONFIG") or PROFILE))
    with ConsoleProgress(console) as progress:
        stack.up(progress)
    try:
        yield stack.config
    finally:
        console.print()
        if running or keep:
            why = "The stack ran before, so it is left running" if running else "The stack is left running"
            console.print(f"{why}: `forebay down` stops it.", markup=False, highlight=False)
        else:
            with ConsoleProgress(console) as progress:
                stack.down(progress)


def _play(console: Console, config: Config) -> None:
    lines = load_script()
    run = str(int(time.time()))
    console.print(
        f"\nPlaying {len(lines)} requests to the support desk of Millrace, a company made up for this: its three brands"
        " are three tenants.\n",
        highlight=False,
    )
    with KafkaSender(config, run) as sender, Show(console, lines) as show:
        played = play(lines, sender, show)
    show_summary(console, summarise(played.outcomes, list(config.tiers)), played, config)
    _check_complete(played)


def _check_complete(played: Play) -> None:
    if played.unanswered:
        numbers = ", ".join(f"#{line.number}" for line in played.unanswered)
        raise NotAllAnswered(
            f"{numbers} got no answer, and nothing came any more; {len(played.unsent)} requests that build on them were"
            " not sent. `forebay status` (after `forebay demo --keep`) tells which part is down"
        )
