"""How a benchmark is run from the command line: its common options, what is said meanwhile, and what becomes of it."""

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from forebay_schemas.errors import ForebayError
from rich.console import Console

from ..bench.harness import Group, Say, Start, measure
from ..bench.profile import check_profiling, profile_sides
from ..bench.profile_tables import show_profile
from ..bench.report import Report, now, show, this_machine, write
from ..figures import minutes

_MIN_ROUNDS = 3
"""The median of fewer rounds is no better than a guess."""


class Listing(click.Group):
    """Lists its commands with their first sentence in full."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Benchmarks"):
            formatter.write_dl(
                [(name, command.get_short_help_str(limit=500)) for name, command in self.commands.items()]
            )


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those that every benchmark has."""
    out = click.option(
        "--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write the figures to, as JSON."
    )
    profile = click.option(
        "--profile",
        type=click.Path(file_okay=False, path_type=Path),
        callback=_remember_folder,
        expose_value=False,
        help="Measure each side twice more, and tell where the processor's time goes; folder for flame graphs.",
    )
    return rounds_option(out(profile(command)))


def _remember_folder(ctx: click.Context, _: click.Parameter, folder: Path | None) -> None:
    ctx.meta[_PROFILE] = folder


_PROFILE = f"{__name__}.profile"


def rounds_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--rounds", default=_MIN_ROUNDS, show_default=True, type=click.IntRange(_MIN_ROUNDS), help="Rounds to measure."
    )(command)


def run(name: str, start: Start, rounds: int, out: Path | None, **given: str | int | float) -> Report:
    """Measure one benchmark and report it. What it started is stopped however this ends.

    Args:
        given: options of its own, for the report.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a CI's timeout stops it as Ctrl-C does
    say = _say_since(time.monotonic())
    context = click.get_current_context(silent=True)
    folder: Path | None = context.meta.get(_PROFILE) if context else None
    machine = this_machine()
    with start(say) as prepared:
        if folder is not None:
            check_profiling(prepared)
        figures = measure(prepared, rounds, say)
        report = Report(
            bench=name,
            measured_at=now(),
            machine=machine,
            rounds=rounds,
            options=given,
            figures=figures,
            facts=prepared.facts,
        )
        if out is not None:
            write(report, out)
        show(report, Console())
        if folder is not None:
            for profile in profile_sides(prepared, folder, say):
                show_profile(profile, Console())
    return report


def _say_since(began: float) -> Say:
    return lambda what: click.echo(f"{time.monotonic() - began:6.1f} s  {what}", err=True)


def run_all(groups: Mapping[str, Group], rounds: int, folder: Path) -> None:
    """Measure several, each with its figures in a file, and write a page of all.

    Args:
        groups: by what is not measured where one does not come up.

    Raises:
        ForebayError: one could not be measured; the others were.
    """
    from ..bench.page import page  # its plots take half a second to import

    folder.mkdir(parents=True, exist_ok=True)
    reports: list[Report] = []
    failed: dict[str, str] = {}
    began = time.monotonic()
    say = _say_since(began)
    for names, group in groups.items():
        try:
            with group(say) as benchmarks:
                for name, start in benchmarks.items():
                    click.echo(f"\n{name}", err=True)
                    try:
                        reports.append(run(name, start, rounds, folder / f"{name}.json"))
                    except ForebayError as error:
                        failed[name] = str(error)
                        click.echo(f"{name}: {error}", err=True)
        except ForebayError as error:
            failed[names] = str(error)
            click.echo(f"{names}: {error}", err=True)
        if reports:
            (folder / "index.html").write_text(page(reports, failed, time.monotonic() - began), "utf-8")
    click.echo(f"{len(reports)} measured in {minutes(time.monotonic() - began)}: {folder / 'index.html'}")
    if failed:
        raise ForebayError(f"{', '.join(failed)} could not be measured")
