"""`forebay router retrain`: learns the router anew from what became of its answers, and rolls out what is better."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import click
from forebay_jobs.router.router import Router
from forebay_jobs.router.weights import encoded
from forebay_schemas.live_rollouts import check_beside, in_order
from forebay_schemas.rollouts import Rollout, RolloutError
from rich.console import Console

from ..outcomes.labels import labels
from ..outcomes.reading import read_outcomes
from ..outcomes.retraining import Retrained, retrain
from ..outcomes.standing import Standing
from ..rollouts.moving import known_rollouts
from .embedder import loaded_embedder, names_of
from .moments import Moment, now
from .options import cli_config
from .progress import ConsoleProgress
from .rollout import guards_of, how_options, start_
from .tables import figures_table

SETTING = "router.weights"
_MAY_DIFFER = "agreement=0"
"""Unless told otherwise: of a router that errs in more than a fifth of its answers no better one would pass."""


@click.command(name="retrain")
@click.option(
    "--since", type=Moment(), default="30d", show_default=True, help="From when on; a span, or a time in UTC."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("router-weights"),
              show_default=True, help="Folder of the new weights, which the job can read.")  # fmt: skip
@click.option("--name", help="Of the rollout; else router- and the date.")
@click.option("--no-rollout", is_flag=True, help="Write the weights, and say how to roll them out.")
@how_options
@click.pass_context
def retrain_(
    context: click.Context,
    since: dt.datetime,
    out: Path,
    name: str | None,
    no_rollout: bool,
    unit: str,
    stage: str,
    guards: tuple[str, ...],
) -> None:
    """Learn the router anew from audits, escalations and feedback, and roll it out where it is better.

    A fifth of the questions is not learned from. On those the new weights are compared with the present ones, which
    have not seen them either: where their chances are surely nearer to what came of it, the weights are written, and a
    rollout of `router.weights` is started, which goes on by itself or undoes itself. Else nothing changes. Meant to be
    run once a month, or when `forebay router drift` ends with 3. Answers of former models are not learned from.

    The rollout goes as --unit, --from and --guard say, like any other. It is not asked whether its answers agree with
    those that are given now (the guard agreement), since where the router erred they are meant to differ.

    \b
      forebay router retrain
      forebay router drift --since 7d; test $? -eq 3 && forebay router retrain --out /mnt/forebay/router
      forebay router retrain --unit user --guard slower=3
    """
    config = cli_config()
    guards = (_MAY_DIFFER, *guards)
    guards_of(guards).check()  # before minutes are spent on learning
    console = Console(highlight=False)
    with ConsoleProgress(Console(stderr=True)) as progress:
        progress.doing("reading rollouts, audits and feedback")
        rollouts = known_rollouts(config)
        if not no_rollout:
            _check_free(rollouts)
        standing = Standing(config, rollouts)
        outcomes = read_outcomes(config, round(since.replace(tzinfo=dt.UTC).timestamp() * 1000))
        found = labels(outcomes, standing)
        progress.done(f"{len(found):,} labelled questions of {len(outcomes.audits):,} audits and remembered answers")
        embedder = loaded_embedder(config, progress)
        # None where rules route, as they do in place of weights that do not fit.
        scorer = Router(standing.config, Router(config)).scorer
        present = scorer and scorer.weights
        models = names_of(config.embedding.model)
        retrained = retrain(found, list(config.tiers), present, embedder, models, progress.doing)
    _show(console, retrained, "rules" if present is None else "present")
    if not retrained.better:
        console.print("not surely better: nothing changes")
        return
    file = (out / f"{retrained.weights.version}.weights").resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_bytes(encoded(retrained.weights))
    unfinished.rename(file)
    setting = f"{SETTING}={file}"
    name = name or f"router-{now():%Y-%m-%d}"
    console.print(f"better: written to {file}")
    if no_rollout:
        command = f"forebay rollout start {name} --set {setting} --guard {_MAY_DIFFER}"
        console.print(f"to roll it out: {command}", soft_wrap=True)
        return
    why = f"retrained: Brier score {retrained.new:.4f} instead of {retrained.present:.4f}"
    context.invoke(start_, name=name, single=(setting,), unit=unit, stage=stage, guards=guards, why=why)


def _check_free(rollouts: Mapping[str, Rollout]) -> None:
    """Raises RolloutError: another rollout of weights is under way, so that none can be started in the end."""
    try:
        check_beside("router weights", {SETTING: ""}, in_order(rollouts.values()))
    except RolloutError as error:
        raise RolloutError(f"{error}, or give --no-rollout") from None


def _show(console: Console, found: Retrained, present: str) -> None:
    table = figures_table("", present, "new", "gain", "95 % interval")
    gain = found.gain
    table.add_row(
        "Brier score",
        f"{found.present:.4f}",
        f"{found.new:.4f}",
        f"{gain.mean:.4f}",
        f"{gain.low:.4f} to {gain.high:.4f}",
    )
    console.print(table)
    console.print(f"learned from {found.learned_from:,} questions, compared on {found.questions:,} others")
