"""`forebay rollout`: changed settings for a growing share of tenants or users, undone by themselves where worse."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
from forebay_jobs.router.weights import weights_of
from forebay_schemas.config import Config
from forebay_schemas.live_rollouts import finish, start, superseded
from forebay_schemas.logs import write_logs
from forebay_schemas.overrides import applied, flattened, shared
from forebay_schemas.rollouts import Guards, Rollout, RolloutError, Stage, Unit, pause, promote, resume, roll_back
from forebay_schemas.sections import WEIGHTS_NONE, WEIGHTS_SHIPPED
from rich.console import Console

from ..outcomes.standing import Standing
from ..rollouts.control import control
from ..rollouts.guards import decided, judged
from ..rollouts.moving import Mover, operator
from ..rollouts.observing import Observer
from ..simulation.whatif import change_of_text, changes_of_file
from .options import cli_config
from .progress import ConsoleProgress
from .rollout_tables import arms_table, changes_table, history_table, live_table

_WHY = click.option("--why", default="", help="Kept in its history, with who and when.")
_NAME = click.argument("name")
_GUARDS = ", ".join(name.replace("_", "-") for name in Guards.__struct_fields__)
_HOW = (
    click.option("--unit", type=click.Choice([unit.value for unit in Unit]), default=Unit.TENANT.value,
                 show_default=True, help="Whose requests stay together in one arm. With few tenants, user."),
    click.option("--from", "stage", type=click.Choice([Stage.SHADOW.value, Stage.TEN.value]),
                 default=Stage.SHADOW.value, show_default=True,
                 help="The first stage; with 10 it answers some at once."),
    click.option("--guard", "guards", metavar="NAME=VALUE", multiple=True, help=f"A limit; the names: {_GUARDS}."),
)  # fmt: skip


def how_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say how a rollout goes, for all commands that start one."""
    for option in reversed(_HOW):
        command = option(command)
    return command


@click.group()
def rollout() -> None:
    """Change models, prompts, thresholds or reuse for some first, and let the change undo itself where it is worse.

    A rollout begins in shadow: it answers some requests besides, for nobody to see, and its answers are compared. Then
    it answers 10, 50, 90 and 100 % of the tenants or users. In each stage its guards compare it with the baseline; it
    is promoted when all of them hold, and rolled back when one is broken, by `forebay rollout control`, a part of
    `forebay up`. Job and workers follow within seconds, without a restart.

    \b
      forebay rollout start cheaper --set tiers.small.model=llama-3.2-3b --why "half the price"
      forebay rollout status cheaper
      forebay rollout promote cheaper --why "looks good"
      forebay rollout rollback cheaper --why "complaints by phone"
      forebay rollout finish cheaper              # at 100 %, when its settings are in the configuration
    """


@rollout.command(name="start")
@_NAME
@click.option("--set", "single", metavar="SETTING=VALUE", multiple=True, help="What it changes; several are fine.")
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="The same as TOML of the configuration's shape; --set goes over it.")  # fmt: skip
@how_options
@click.option("--dry-run", is_flag=True, help="Check it and show what it would change, and write nothing.")
@_WHY
def start_(
    name: str,
    single: tuple[str, ...],
    file: Path | None,
    unit: str,
    stage: str,
    guards: tuple[str, ...],
    dry_run: bool,
    why: str,
) -> None:
    """Start the rollout NAME: in shadow, where its answers are compared and shown to nobody.

    \b
      forebay rollout start cheaper --set tiers.small.model=llama-3.2-3b
      forebay rollout start bolder --set categories.support.delta=0.02 --unit user --guard complaints=0.005
      forebay rollout start prompts --file prompts.toml --dry-run

    What it may change: of a tier its model, prompts and limits; of a category how it is reused, routed and escalated;
    and router.*. The configuration stays as it is: a rollout lies over it until it ends. A model must be described
    under `models` of job and workers before. A file of router.weights that lies here is read, and has to fit. What a
    rollout at 100 % changed may be changed again: it is then what the new one is compared with, and holds again where
    that is rolled back.
    """
    config = cli_config()
    changes: list[Mapping[str, Any]] = [*([changes_of_file(file)] if file else []), *map(change_of_text, single)]
    overrides = {path: value for change in changes for path, value in flattened(change).items()}
    limits = guards_of(guards)
    unread = _unread_weights(overrides, config)

    def begin(known: Mapping[str, Rollout], now_ms: int) -> Rollout:
        return start(
            known,
            name,
            overrides,
            config,
            unit=Unit(unit),
            guards=limits,
            stage=Stage(stage),
            who=operator(),
            why=why,
            now_ms=now_ms,
        )

    with closing(Mover(config)) as mover:
        known = mover.known()
        rollout = begin(known, _now_ms()) if dry_run else mover.move(begin)
    console = Console(highlight=False)
    console.print(changes_table(rollout, Standing(config, known).config))
    if unread is not None:
        console.print(f"{unread} is not here to be read: whether it fits, the job's log says", soft_wrap=True)
    share = "answers 10 % of the {unit}s" if stage == Stage.TEN else "is in shadow: its answers are shown to nobody"
    said = f"{name} {share.format(unit=unit)}"
    console.print(f"{name} can be started like this; nothing was written" if dry_run else said)


@rollout.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print all that is known as JSON.")
def status(name: str | None, as_json: bool) -> None:
    """Show the rollouts; of NAME, or of all that are live, both arms' figures and what each guard says.

    The figures are counted from the replies since the stage began, which may take a while.
    """
    config = cli_config()
    with _observed(config) as (known, observer):
        shown = [_known(name, known)] if name else sorted(known.values(), key=lambda one: -one.since_ms)
        findings = {
            one.name: judged(observer.counting.of(one), one.guards, one.stage) for one in shown if one.stage.live
        }
        next_moves = {one.name: decided(one, observer.counting.of(one), _now_ms()) for one in shown if one.stage.live}
        if as_json:
            for one in shown:
                said = {"rollout": one, "guards": findings.get(one.name, []), "next": next_moves.get(one.name)}
                click.echo(msgspec.json.encode(said))
            return
        if not shown:
            click.echo("there are no rollouts; `forebay rollout start --help` tells how to start one")
            return
        console = Console(highlight=False)
        console.print(live_table(shown, {one.name for one in superseded(known.values())}))
        for one in shown:
            if one.stage.live:
                console.print()
                console.print(arms_table(one, observer.counting.of(one), findings[one.name]))
                move, why = next_moves[one.name]
                console.print(f"next: {move} ({why})")


@rollout.command()
@_NAME
def history(name: str) -> None:
    """Show who moved the rollout NAME, when and why."""
    with closing(Mover(cli_config())) as mover:
        known = mover.known()
    Console(highlight=False).print(history_table(_known(name, known)))


@rollout.command(name="promote")
@_NAME
@_WHY
def promote_(name: str, why: str) -> None:
    """Move the rollout NAME to its next stage now, whatever its guards say."""
    _move(name, partial(promote, why=why))


@rollout.command()
@_NAME
@_WHY
def rollback(name: str, why: str) -> None:
    """End the rollout NAME: all get what held before it again, and none of its answers.

    That is what an earlier one at 100 % changed, else the configuration's settings.
    """
    _move(name, partial(roll_back, why=why))


@rollout.command(name="pause")
@_NAME
@_WHY
def pause_(name: str, why: str) -> None:
    """Keep the rollout NAME in its stage until it is resumed or moved by hand. A broken guard still rolls it back."""
    _move(name, partial(pause, why=why))


@rollout.command(name="resume")
@_NAME
@_WHY
def resume_(name: str, why: str) -> None:
    """Let the guards of the rollout NAME promote it again."""
    _move(name, partial(resume, why=why))


@rollout.command(name="finish")
@_NAME
@_WHY
def finish_(name: str, why: str) -> None:
    """End the rollout NAME at 100 %, when the configuration has what it changed.

    Put its settings into the configuration file, restart job and workers with it, then finish: until then everybody
    gets them from the rollout. What is checked is the configuration file of this command; what job and workers run
    with it cannot see, and without that restart everybody gets the old settings again. Afterwards requests share
    answers as before the rollout; those that a former model gave are not given again after `forebay invalidate --model
    FORMER`. Earlier ones of which nothing is left are finished with it.
    """
    config = cli_config()

    def transition(of: str, why: str, known: Mapping[str, Rollout], now_ms: int) -> Rollout:
        return finish(_known(of, known), known, config, who=operator(), why=why, now_ms=now_ms)

    with closing(Mover(config)) as mover:
        known = mover.known()
        held = _known(name, known)
        # Those first: they would hold again without what lies over them.
        for one in superseded(known.values()) if held.stage is Stage.ALL else ():
            if one.started_ms < held.started_ms and shared(one.overrides, held.overrides):
                mover.move(partial(transition, one.name, f"superseded, and {name} is finished"))
                click.echo(f"{one.name}, which it superseded, is finished too")
        _say(mover.move(partial(transition, name, why)))


@rollout.command(name="control")
def control_() -> None:
    """Promote rollouts whose guards hold, and roll back those with a broken one, until Ctrl-C or SIGTERM.

    One is part of `forebay up` and of the deployment; several do no harm. It keeps nothing of its own: what it has to
    know is in Kafka, and one that was killed goes on where it was.
    """
    config = cli_config()
    write_logs(config.logs)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    control(config, stop)


def _move(name: str, step: Any) -> None:
    def transition(known: Mapping[str, Rollout], now_ms: int) -> Rollout:
        return step(_known(name, known), who=operator(), now_ms=now_ms)

    with closing(Mover(cli_config())) as mover:
        _say(mover.move(transition))


def _say(rollout: Rollout) -> None:
    paused = ", paused" if rollout.paused else ""
    click.echo(f"{rollout.name} is at the stage {rollout.stage}{paused}")


@contextmanager
def _observed(config: Config) -> Iterator[tuple[dict[str, Rollout], Observer]]:
    with closing(Mover(config)) as mover, closing(Observer(config)) as observer:
        known = mover.known()
        observer.follow(known)
        with ConsoleProgress(Console(stderr=True)) as progress:
            progress.doing("counting the replies of live rollouts since their stages began")
            observer.read_all()
        yield known, observer


def _unread_weights(overrides: Mapping[str, str], config: Config) -> str | None:
    """The file of weights that is rolled out and lies elsewhere; None where there is none.

    Raises:
        UnfitWeights: the job would leave them aside, so both arms would be alike, and every guard would hold.
        ConfigError: what the rollout changes cannot work.
    """
    if not shared({"router.weights": ""}, overrides):
        return None
    then = applied(config, overrides)
    named = then.router.weights
    if named not in (WEIGHTS_NONE, WEIGHTS_SHIPPED) and not Path(named).is_file():
        return named
    weights_of(then)
    return None


def guards_of(texts: tuple[str, ...]) -> Guards:
    """The limits in texts such as ``slower=3``; of one name the last counts.

    Raises:
        click.BadParameter: a text is none.
    """
    values: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name.replace("-", "_") not in Guards.__struct_fields__:
            raise click.BadParameter(f"{name!r} is no guard; use one of {_GUARDS}", param_hint="--guard")
        try:
            values[name.replace("-", "_")] = float(value)
        except ValueError:
            raise click.BadParameter(f"{name}: {value!r} is no number", param_hint="--guard") from None
    return Guards(**values | ({"min_replies": int(values["min_replies"])} if "min_replies" in values else {}))  # pyright: ignore[reportArgumentType]: its fields are numbers


def _now_ms() -> int:
    return round(time.time() * 1000)


def _known(name: str, known: Mapping[str, Rollout]) -> Rollout:
    if name not in known:
        raise RolloutError(f"{name}: there is no such rollout; known are {', '.join(sorted(known)) or 'none'}")
    return known[name]
