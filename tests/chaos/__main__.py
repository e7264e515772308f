"""``python -m tests.chaos``: the long form."""

import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from confluent_kafka import KafkaException
from forebay_ops.cli.progress import ConsoleProgress
from rich.console import Console

from .campaign import Injection, inject, judge
from .faults import EVERY, FROM_OLDER
from .older import no_older_version
from .overload import CONCURRENCY, DEADLINE_S, goals, overload, tables
from .scene import Scene, staged
from .soak import Size, compared, go_on, sizes
from .soak import table as table_of_sizes
from .table import table

_WARM_UP_MIN = 2.0
"""Until the JVMs have compiled what runs often, and each kind of request was seen."""


@click.group()
def main() -> None:
    """Break a stack of its own under steady load, and say what that cost.

    \b
      python -m tests.chaos faults
      python -m tests.chaos inject --only broker --injections 10
      python -m tests.chaos soak --minutes 30
      python -m tests.chaos overload --minutes 2
    """


@main.command("faults")
def list_faults() -> None:
    """Name the faults, in the order in which they are injected."""
    for fault in EVERY:
        click.echo(fault.name)
    click.echo(f"{FROM_OLDER.name} (the last one with --older-job)")


@main.command("inject")
@click.option(
    "--injections",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="How many faults are injected in all.",
)
@click.option("--minutes", type=float, help="After so long no further fault is injected.")
@click.option("--only", multiple=True, metavar="WORDS", help="Faults whose names hold these words; may be repeated.")
@click.option("--older-job", is_flag=True, help="The job is of an older version, until the last fault upgrades it.")
def inject_faults(injections: int, minutes: float | None, only: tuple[str, ...], older_job: bool) -> None:
    """Inject one fault after the other, and print a table of what each did.

    Ctrl-C ends it with the table of what was injected so far. Exit code 1: something was lost, repeated or wrong, was
    answered with an error that no fault is a reason for, took longer than it may, or never came into the state in which
    it is broken.
    """
    chosen = [fault for fault in EVERY if not only or any(words in fault.name for words in only)]
    if not chosen:
        raise click.UsageError(f"--only: no fault's name holds {' or '.join(only)}; `faults` names them all")
    if older_job and (reason := no_older_version()):
        raise click.UsageError(f"--older-job: {reason}")
    console, done, states_seen = _console(), list[Injection](), True
    for fault in chosen:
        if reason := fault.impossible():
            console.print(f"skipped: {fault.name}: {reason}", highlight=False)
    chosen = [fault for fault in chosen if not fault.impossible()]
    end_s = time.monotonic() + (minutes or 24 * 60) * 60
    with ConsoleProgress(console) as progress, _brought_up(progress, older_job) as scene:
        try:
            faults = itertools.islice(itertools.cycle(chosen), injections - older_job)
            in_time = itertools.takewhile(lambda _: time.monotonic() < end_s, faults)
            for number, fault in enumerate(itertools.chain(in_time, [FROM_OLDER] if older_job else []), 1):
                progress.doing(f"{number} of {injections}: {fault.name}")
                try:
                    one = inject(scene, fault)
                except (AssertionError, KafkaException) as error:
                    states_seen = False
                    progress.done(f"{number} of {injections}: {fault.name}: {error}")
                    continue
                done.append(one)
                took = f"recovered after {one.recovered_s:.1f} s" if one.recovered_s else "not seen to recover"
                progress.done(f"{number} of {injections}: {fault.name}: {len(one.in_flight)} in flight, {took}")
        except KeyboardInterrupt:
            progress.done("interrupted")
        progress.doing("waiting for the last replies")
        scene.load.stop()
        judge(scene, done)
    console.print(table(done))
    _tell_what_is_wrong(console, done, scene)
    sys.exit(bool(scene.load.problems) or not states_seen or not all(one.held for one in done))


@main.command("soak")
@click.option("--minutes", default=30.0, show_default=True, help="How long the load goes on between the two looks.")
def let_it_run(minutes: float) -> None:
    """Inject nothing, and print the sizes that may not grow: when all is warm, half way, and at the end.

    Exit code 1: one grew by more than it may, or an answer was wrong.
    """
    console = _console()
    with ConsoleProgress(console) as progress, _brought_up(progress) as scene:
        looks: list[dict[str, Size]] = []
        for further_min in (_WARM_UP_MIN, minutes / 2, minutes / 2):
            go_on(scene, further_min, progress.counting)
            looks.append(sizes(scene))
        scene.load.stop()
    found = compared(*looks)
    console.print(table_of_sizes(found))
    for problem in (*(f"grew: {one.name}" for one in found if one.grew), *scene.load.problems):
        console.print(problem, highlight=False)
    sys.exit(bool(scene.load.problems) or any(one.grew for one in found))


@main.command("overload")
@click.option("--minutes", default=2.0, show_default=True, help="How long ten times the sustainable rate is offered.")
def offer_too_much(minutes: float) -> None:
    """Find the rate that is answered in time, offer ten times as much, and tell what became of it.

    Exit code 1: a goal of the table was missed.
    """
    console = _console()
    with ConsoleProgress(console) as progress:
        progress.doing("bringing the stack up, and a load")
        with staged(CONCURRENCY, DEADLINE_S) as scene:
            seen = overload(scene, minutes, progress.doing)
    found = goals(seen)
    console.print(f"sustained: {seen.sustained_per_s:.1f} requests a second", highlight=False)
    for shown in tables(seen, found):
        console.print(shown)
        console.print()
    codes = ", ".join(f"{count} {code}" for code, count in seen.load.errors.items())
    console.print(f"error replies to requests of the overload: {codes or 'none'}", highlight=False)
    sys.exit(not all(one.held for one in found))


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


@contextmanager
def _brought_up(progress: ConsoleProgress, older_job: bool = False) -> Iterator[Scene]:
    progress.doing("bringing the stack up, and a load")
    with staged(older_job=older_job) as scene:
        yield scene


def _tell_what_is_wrong(console: Console, done: list[Injection], scene: Scene) -> None:
    asked = (
        f"{len(scene.checker.requests())} requests, and {scene.load.callers.answered} calls of the gateway among them"
    )
    console.print(asked, highlight=False)
    if left_open := sum(one.left_open for one in done):
        console.print(f"{left_open} times Kafka had left a transaction open, which was aborted", highlight=False)
    for one in done:
        for what, requests in (("lost", one.lost), ("repeated", one.repeated), ("wrong", one.wrong)):
            for tenant, request_id in requests:
                console.print(f"{what}: {request_id} of {tenant} ({one.fault.name})", highlight=False)
        if one.undue:
            console.print(f"{', '.join(sorted(one.undue))}: no fault is a reason ({one.fault.name})", highlight=False)
    for problem in scene.load.problems:
        console.print(problem, highlight=False)


if __name__ == "__main__":
    main()
