"""`forebay up`, `down`, `status` and `logs`: the local stack from a shell."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from forebay_schemas.config import load_config
from forebay_schemas.errors import ConfigError
from rich.console import Console
from rich.table import Table

from ..local.effective import PROFILE
from ..local.home import Home, running_config
from ..local.stack import PartState, PartStatus, Stack
from .progress import ConsoleProgress

_COLOURS = {PartState.UP: "green", PartState.STARTING: "yellow", PartState.RESTARTING: "yellow"}


def _home_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of the stack's state and logs; else FOREBAY_HOME, else ./.forebay.",
    )(command)


@click.command()
@_home_option
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Configuration to run with; else FOREBAY_CONFIG, else the local profile that is shipped.",
)
def up(home: Path | None, config_file: Path | None) -> None:
    """Start the whole stack on this machine, and keep it running.

    Kafka, Redis, a Flink cluster with the job on it, a worker with a small chat model, the ledger that keeps every
    reply, and what moves rollouts: real ones, all from Python packages. What dies is started again. Calling it once
    more does no harm: it waits until all is up.

    Single settings can be given in the environment, and a part can be a server of your own:

    \b
      FOREBAY_REDIS__URL=redis://cache:6379/0 \\
      FOREBAY_LOCAL__START='["kafka", "ledger", "flink", "job", "worker"]' forebay up

    Ctrl-C stops what was started. Once up, `forebay down` does.
    """
    place = Home.at(home)
    config = load_config(config_file or os.environ.get("FOREBAY_CONFIG") or PROFILE)
    console = Console()
    stack = Stack(place, config)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it, too, stops what was started
    with ConsoleProgress(console) as progress:
        stack.up(progress)
    console.print()
    _show(console, stack.status())
    console.print(
        f"\nState and logs are in {place.root}. Try:\n"
        '  forebay ask "How do I reset my password?"\n'
        "  forebay report\n"
        "  forebay status\n"
        "  forebay logs job -f\n"
        "  forebay down",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


@click.command()
@_home_option
@click.option(
    "--purge", is_flag=True, help="Also delete topics, caches, checkpoints and logs: all but jars and models."
)
def down(home: Path | None, purge: bool) -> None:
    """Stop everything that `up` started, in reverse order, also what a crash left behind.

    The state stays: `forebay up` goes on where this stopped, with the job's checkpoints and Kafka's records. Redis is
    a cache and starts empty.
    """
    place = Home.at(home)
    with ConsoleProgress(Console()) as progress:
        if not _stack_in(place).down(progress, purge):
            progress.done(f"nothing was running in {place.root}")


@click.command()
@_home_option
def status(home: Path | None) -> None:
    """Show what each part is doing. The exit code is 0 only where all of it is up."""
    place = Home.at(home)
    stack = _stack_in(place)
    if running_config(place) is None:
        left = stack.orphans()
        hint = f", but {left} processes of a killed supervisor are left; `forebay up` or `down` mends that"
        click.echo(f"no stack runs in {place.root}" + (hint if left else "; `forebay up` starts one"))
        sys.exit(1)
    states = stack.status()
    _show(Console(), states)
    if any(state.state is not PartState.UP for state in states):
        sys.exit(1)


@click.command()
@_home_option
@click.argument("part", default="supervisor")
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is added, until Ctrl-C.")
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(min=0), help="Lines from the end.")
def logs(home: Path | None, part: str, follow: bool, lines: int) -> None:
    """Show the log of a PART: kafka, redis, ledger, rollouts, jobmanager, taskmanager, job or worker.

    Without one it is the supervisor's, which says what was started, what died and what was started again.
    """
    place = Home.at(home)
    file = place.logs / f"{part}.log"
    if not file.is_file():
        found = sorted(log.stem for log in place.logs.glob("*.log"))
        there = f"; there are {', '.join(found)}" if found else "; nothing was started in this home yet"
        raise ConfigError(f"there is no log {file}{there}")
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), str(file)]
    sys.exit(subprocess.run(command, check=False).returncode)


def _stack_in(home: Home) -> Stack:
    """The stack of a home, as it was started last."""
    return Stack(home, load_config(home.config if home.config.is_file() else PROFILE))


def _show(console: Console, states: list[PartStatus]) -> None:
    table = Table("part", "state", "pid", "up for", "address", "restarts", box=None, header_style="bold")
    for part in states:
        state = f"[{_COLOURS.get(part.state, 'red')}]{part.state}[/]"
        uptime = f"{part.uptime_s // 60}:{part.uptime_s % 60:02d}" if part.pid else ""
        table.add_row(part.name, state, str(part.pid or ""), uptime, part.address, str(part.restarts or ""))
    console.print(table)
    for part in states:
        if part.restarts:
            console.print(f"{part.name} died and was started again: `forebay logs {part.name}` says why")
