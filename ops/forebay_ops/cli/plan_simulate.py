"""`forebay plan simulate`: what would have happened to traffic under other settings."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import click
import tomli_w
from forebay_schemas.config import Config
from rich.console import Console

from ..json_files import write_json
from ..local.effective import PROFILE
from ..simulation.behaviour import ANSWER_TOKENS, SERVICE_MS
from ..simulation.measured import measured_rates
from ..simulation.outcome import Outcome, as_json
from ..simulation.page import page
from ..simulation.recommend import MAX_LOSS
from ..simulation.run import Side, Simulation
from ..simulation.sweep import changes_of
from ..simulation.tables import tables
from ..simulation.whatif import what_if
from .moments import Moment
from .options import cli_config, stopped_stack
from .plan_sources import SHARE, Source, ledger_source, trace_source
from .progress import ConsoleProgress
from .report_tables import LEAST_WIDTH, show_table

_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command()
@click.argument("source", type=click.Path(exists=True, readable=True, path_type=Path), required=False)
@click.option("--what-if", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="TOML of the configuration's shape; what it says takes the place of what holds.")  # fmt: skip
@click.option("--set", "single", metavar="SETTING=VALUE", multiple=True, help="One such setting; goes over the file.")
@click.option("--entries", type=click.IntRange(min=1), help="What if: answers that the exact cache has room for.")
@click.option("--entries-now", type=click.IntRange(min=1), help="The same at present; without it, for all.")
@click.option("--since", type=Moment(whole_day=False), help="Of a ledger: from here on.")
@click.option("--until", type=Moment(whole_day=True), help="Of a ledger: up to here, a date with the whole day.")
@click.option("--tenant", default="replay", show_default=True, help="Of a trace: whose requests they are, where a "
              "line does not say.")  # fmt: skip
@click.option("--like", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Of a trace: a ledger in which generations take as long, and answers are as long.")  # fmt: skip
@click.option("--service-ms", default=SERVICE_MS, show_default=True, type=click.FloatRange(min=0, min_open=True),
              help="Of a trace without --like: time of a generation.")  # fmt: skip
@click.option("--answer-tokens", default=ANSWER_TOKENS, show_default=True, type=click.IntRange(min=0),
              help="Of a trace without --like: tokens of an answer, where the trace does not tell.")  # fmt: skip
@click.option("--max-loss", default=100 * MAX_LOSS, show_default=True, type=click.FloatRange(0, 100),
              help="Quality that recommended settings may lose, in per cent of the requests.")  # fmt: skip
@click.option("--first", default=50.0, show_default=True, type=SHARE,
              help="Per cent of the requests on which settings are chosen; they are reported on the rest.")  # fmt: skip
@click.option("--out", default="plan.html", show_default=True, type=_FILE, help="File for the page with the plots.")
@click.option("--json", "json_file", type=_FILE, help="Write all figures here.")
@click.option("--measured", "measured_file", type=_FILE,
              help="Of a labelled trace: write its rates here, as `forebay plan scenario` takes them.")  # fmt: skip
def simulate(
    source: Path | None,
    file: Path | None,
    single: tuple[str, ...],
    entries: int | None,
    entries_now: int | None,
    since: dt.datetime | None,
    until: dt.datetime | None,
    tenant: str,
    like: Path | None,
    service_ms: float,
    answer_tokens: int,
    max_loss: float,
    first: float,
    out: Path,
    json_file: Path | None,
    measured_file: Path | None,
) -> None:
    """Say what would have happened to SOURCE under other thresholds, tiers, prices, times to live or cache sizes.

    SOURCE is the folder of a ledger (absent: that of the configuration) or a trace, as `forebay replay` takes and
    writes it: JSON lines with at_ms and the fields of a request. The job's own rules decide; nothing has to run. The
    texts of a trace are embedded once: what was worked out is kept beside it.

    \b
      forebay plan simulate --since 7d --set tiers.small.complexity_up_to=0.4
      forebay plan simulate trace.jsonl --what-if cheaper.toml --entries 100000 --json plan.json
      forebay plan simulate trace.jsonl --set categories.support.delta=0.005 --max-loss 0.5

    Where lines say what a question means (`label`) or which tiers answer it right (`right`: {"small": true}), all
    thresholds and tiers are tried, and the page shows what they cost against the quality that they lose. Recommended
    is the cheapest setting that loses at most --max-loss against the largest tier on the first part of the requests;
    what is reported of it is what it comes to on the others.
    """
    config = cli_config(stopped_stack() or PROFILE)
    other, ignored = what_if(config, file, single)
    present, tried = Side(config=config, most_kept=entries_now), Side(config=other, most_kept=entries or entries_now)
    place = source or config.ledger.folder
    console = Console()
    console.width = max(console.width, LEAST_WIDTH)
    with ConsoleProgress(Console(stderr=True)) as progress:
        progress.doing(f"reading {place}")
        found = (
            ledger_source(place, config, other, since, until)
            if place.is_dir() or source is None
            else trace_source(
                place,
                config,
                tenant=tenant,
                like=like,
                service_ms=service_ms,
                answer_tokens=answer_tokens,
                progress=progress,
            )
        )
        if ignored:
            found = replace(found, notes=[*found.notes, f"change nothing that is simulated: {', '.join(ignored)}"])
        outcome = _outcome(found, present, tried, max_loss / 100, first / 100, progress)
    for table in tables(outcome):
        show_table(console, table)
    _show_notes(console, outcome, other)
    out.write_text(page(outcome, "Forebay: what if"), "utf-8")
    console.print(f"wrote {out}", highlight=False, markup=False)
    if json_file is not None:
        write_json(json_file, as_json(outcome))
    if measured_file is not None:
        side, figures = list(outcome.totals.items())[-1]
        rates = measured_rates(figures, f"{found.says}, {figures.requests:,} requests, simulated ({side})")
        write_json(measured_file, rates)


def _outcome(
    found: Source, present: Side, other: Side, max_loss: float, first: float, progress: ConsoleProgress
) -> Outcome:
    simulation = Simulation(found.traffic, found.behaviour, found.recorded, progress.counting)
    outcome = simulation.run(
        found.says,
        present,
        None if other == present else other,
        found.notes,
        max_loss,
        first=round(first * len(found.traffic)),
    )
    return replace(outcome, took_s={"read": found.read_s} | dict(outcome.took_s))


def _show_notes(console: Console, outcome: Outcome, config: Config) -> None:
    if outcome.fronts:
        chosen = {front.category: front.recommended.setting for front in outcome.fronts}
        console.print("[bold]The recommended settings as TOML, for --what-if and the configuration[/]")
        console.print(tomli_w.dumps(changes_of(chosen, config)), highlight=False, markup=False)
    for note in outcome.notes:
        console.print(f"- {note}", highlight=False, markup=False, soft_wrap=True)
    took = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in outcome.took_s.items())
    console.print(f"took: {took}", highlight=False, markup=False)
