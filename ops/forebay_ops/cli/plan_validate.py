"""`forebay plan validate`: how far a simulation is from the replay of the same trace."""

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ..figures import money
from ..json_files import write_json
from ..local.effective import PROFILE
from ..simulation.behaviour import ANSWER_TOKENS
from ..simulation.ledger import read_ledger
from ..simulation.measured import measured_rates
from ..simulation.trace import read_traffic
from ..simulation.validation import GOAL, Deviation, Validation
from ..simulation.validation import validate as compare
from .embedder import loaded_embedder
from .options import cli_config, stopped_stack
from .plan_sources import SHARE
from .progress import ConsoleProgress
from .tables import figures_table

_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command()
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.argument("ledger", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option("--run", required=True, help="Name of the replay, which `forebay replay` prints.")
@click.option("--tenant", default="replay", show_default=True, help="Whose requests they are, where a line does not "
              "say.")  # fmt: skip
@click.option("--first", default=50.0, show_default=True, type=SHARE,
              help="Per cent of the requests that the simulation learns from; the rest is predicted.")  # fmt: skip
@click.option("--json", "json_file", type=_FILE, help="Write all figures here.")
@click.option("--measured", "measured_file", type=_FILE,
              help="Of a labelled trace: write the replay's rates here, for `forebay plan scenario`.")  # fmt: skip
def validate(
    trace: Path,
    ledger: Path | None,
    run: str,
    tenant: str,
    first: float,
    json_file: Path | None,
    measured_file: Path | None,
) -> None:
    """Predict the later part of TRACE, and compare with the LEDGER (absent: the configuration's) of its replay.

    The trace is the one that was played: `forebay replay --write` writes it, at the pace at which it was played. Both
    sides decide under the settings that hold now, which must be those of the replay. How long generations take, how
    many tokens they have, how many are cut off or go to a larger tier is learned from the replay of the --first
    requests. Of those behind them the simulation knows when they came and what they asked, and of their replies
    nothing. Exit code 1 where a figure is off by more than the goal of 2 %: hit rate and money by their share, parts by
    points.

    \b
      forebay replay azure.csv.gz --texts questions.jsonl.gz --limit 5000 --write played.jsonl
      forebay plan validate played.jsonl --run 3f2a91c0 --measured rates.json
      forebay plan scenario --measured rates.json
    """
    config = cli_config(stopped_stack() or PROFILE)
    folder = ledger or config.ledger.folder
    with ConsoleProgress(Console(stderr=True)) as progress:
        progress.doing(f"reading {folder}")
        replay = read_ledger(folder, config, run=run)
        traffic, _ = read_traffic(
            trace, config, tenant, ANSWER_TOKENS, lambda: loaded_embedder(config, progress), progress.counting
        )
        taught = round(first / 100 * len(traffic))
        progress.doing("simulating")
        found = compare(traffic, read_ledger(folder, config, run=run, first=taught), replay, config, run, taught)
    _show(Console(), found)
    if json_file is not None:
        write_json(json_file, _as_json(found))
    if measured_file is not None:
        source = f"the replay {run} of {trace.name}, its last {found.compared:,} answers"
        rates = measured_rates(found.recorded, source)
        write_json(measured_file, rates)
    if not all(each.met for each in found.deviations):
        sys.exit(1)


def _show(console: Console, found: Validation) -> None:
    left_out = f"; {found.unanswered:,} without an answer are left out" if found.unanswered else ""
    console.print(
        f"learned from {found.learned:,} answers, compared with the {found.compared:,} behind them{left_out}",
        highlight=False,
    )
    table = figures_table("", "replay", "predicted", "off", f"goal {GOAL:.0%}")
    for each in found.deviations:
        verdict = "[green]met[/]" if each.met else "[red]missed[/]"
        table.add_row(each.what, _text(each, each.recorded), _text(each, each.predicted), _off(each), verdict)
    console.print(table)
    console.print(
        f"by chance alone, as many answers to new questions cost up to {found.chance:.1%} more or less (95 %)",
        highlight=False,
        soft_wrap=True,
    )


def _text(deviation: Deviation, value: float) -> str:
    return f"{value:.2%}" if deviation.is_share else money(value)


def _off(deviation: Deviation) -> str:
    return f"{deviation.off:+.2%}" if deviation.relative else f"{100 * deviation.off:+.2f} points"


def _as_json(found: Validation) -> dict[str, Any]:
    fields = ("what", "recorded", "predicted", "off", "relative", "met")
    return {
        "learned": found.learned,
        "compared": found.compared,
        "unanswered": found.unanswered,
        "chance": found.chance,
        "goal": GOAL,
        "figures": [{name: getattr(each, name) for name in fields} for each in found.deviations],
    }
