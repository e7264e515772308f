"""`forebay parity`: what is lost by routing, against the largest tier for everything."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click
from forebay_client import BrokerUnavailable, Client, Reply
from forebay_jobs.judging.judge import Judge
from forebay_schemas.canonical import question_of
from forebay_schemas.config import Config
from forebay_schemas.records import Request
from rich.console import Console
from rich.text import Text

from ..figures import money
from ..json_files import write_json
from ..parity.asking import Asking, Silence, Told
from ..parity.comparing import Answered, Parity, compare
from ..parity.sample import Case, both_paths, cases_in, limit_usd, may_be_asked, recent_cases, sampled, usual_usd
from .embedder import loaded_embedder
from .exits import FOUND
from .interrupts import stoppable
from .options import cli_config
from .progress import ConsoleProgress
from .tables import figures_table

_COLOURS = {"within": "green", "beyond": "red", "unsure": "yellow"}
_ANSWER_TOKENS = 200
"""Of an answer, where its cost is foretold: some 150 words."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """How many are asked at once, and for how long they are waited for."""

    in_flight: int
    within_s: float
    patience_s: float


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--n", "count", default=10_000, show_default=True, type=click.IntRange(min=1), help="Size of the sample.")
@click.option("--tenant", help="Whose requests those of FILE are, where a line does not say.")
@click.option("--tolerance", default=0.02, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Share of good answers that may be lost.")  # fmt: skip
@click.option("--in-flight", default=200, show_default=True, type=click.IntRange(min=1),
              help="Most requests that are awaited at once.")  # fmt: skip
@click.option("--within", "within_h", default=24.0, show_default=True, type=click.FloatRange(0, 720, min_open=True),
              help="Hours; the deadline of the requests.")  # fmt: skip
@click.option("--timeout", "patience_s", default=900.0, show_default=True, type=click.FloatRange(min=0, min_open=True),
              help="Give up when no reply has come for so many seconds.")  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False, writable=True), help="Write all figures as JSON."
)
@click.option("--dry-run", is_flag=True, help="Say what would be asked and what it may cost, and ask nothing.")
def parity(
    file: BinaryIO | None,
    count: int,
    tenant: str | None,
    tolerance: float,
    in_flight: int,
    within_h: float,
    patience_s: float,
    out: Path | None,
    dry_run: bool,
) -> None:
    """Send a sample of requests through the router and to the largest tier, and say what routing loses.

    The sample is taken from FILE, lines as `forebay send` takes them, plain or gzip; without one it is the newest
    requests of the request topics. Both paths are asked on the batch lane, at its price, past all caches, and greedily
    where a request has no temperature. See with --dry-run first what that may cost.

    A line may tell what is right, in `answer`: then the loss is that of right answers. Else the answers are compared by
    the judge of the category, and what it leaves open is asked of the largest tier; the loss is then the share of
    answers that say something else than the largest tier's, of which some are as good. What was not answered on both
    paths, or could not be judged, counts as lost in the column `at most`, and may make the finding unsure.

    \b
      forebay parity --n 10000 --dry-run
      forebay parity labelled.jsonl --n 1000 --tolerance 0.05 --out parity.json

    The exit code is 3 where a category surely loses more than the tolerance, and 1 where it could not be measured, or
    not wholly: where nothing comes any more, what came is compared. Ctrl-C takes back what is unanswered.
    """
    config = cli_config()
    cases = cases_in(file, tenant, config) if file else recent_cases(config, count)
    allowed = [case for case in cases if may_be_asked(case, config)]
    chosen = sampled(allowed, count)
    console = Console(highlight=False)
    _say_what(console, chosen, len(cases) - len(allowed), config)
    if dry_run:
        return
    if not chosen:
        raise click.ClickException("no request may be asked of the largest tier (max_tier); give others")
    found, ended_by = _measured(chosen, config, _Limits(in_flight, within_h * 3600, patience_s))
    if out:
        write_json(out, found)
    _show(console, found, tolerance)
    if ended_by:
        click.secho(f"forebay: these figures are of what came: {ended_by}", fg="red", err=True)
    if any(each.finding(tolerance) == "beyond" for each in found):
        sys.exit(FOUND)
    if ended_by:
        sys.exit(1)


def _measured(
    cases: list[Case], config: Config, limits: _Limits
) -> tuple[list[Parity], Silence | BrokerUnavailable | None]:
    """What was found, and what ended the asking before all were asked and had answered."""
    now_ms = time.time_ns() // 1_000_000
    paths = [both_paths(case, config, limits.within_s, now_ms) for case in cases]
    with stoppable() as stopped, ConsoleProgress(Console(stderr=True)) as progress:
        judge = Judge(config, loaded_embedder(config, progress))

        def told(what: str, total: int) -> Told:
            def tell(settled: int) -> None:
                if stopped():
                    raise click.Abort
                progress.counting(f"{what}: {settled:,} of {total:,}")

            return tell

        with Client(config=config) as client:
            asking = Asking(client, limits.in_flight, limits.patience_s)
            asked = [request for pair in paths for request in pair]
            replies = asking.all(asked, told("both paths", len(asked)))

            def verdicts(requests: Sequence[Request]) -> dict[str, Reply]:
                return asking.all(requests, told("what the judge left open", len(requests)))

            answered: list[Answered] = []
            unanswered: list[Case] = []
            for case, (routed, largest) in zip(cases, paths, strict=True):
                if routed.request_id in replies and largest.request_id in replies:
                    answered.append(Answered(case, replies[routed.request_id], replies[largest.request_id]))
                else:
                    unanswered.append(case)
            progress.done(f"{len(answered):,} of {len(cases):,} were answered on both paths")
            if not answered and asking.ended_by:
                raise asking.ended_by
            if not answered:
                raise click.ClickException("no request was answered on both paths; see the dead letters and replies")
            progress.doing("comparing the answers")
            return compare(answered, unanswered, judge, config, verdicts, now_ms), asking.ended_by


def _say_what(console: Console, cases: list[Case], left_out: int, config: Config) -> None:
    labelled = sum(case.answer is not None for case in cases)
    usual, most = usual_usd(cases, config, _ANSWER_TOKENS), limit_usd(cases, config)
    console.print(f"{len(cases):,} requests on two paths; of {labelled:,} it is known what is right")
    if left_out:
        console.print(f"{left_out:,} are left out: their max_tier forbids the largest tier")
    questions = {question_of(case.request) or case.request.request_id for case in cases}
    if repeated := len(cases) - len(questions):
        console.print(f"{repeated:,} repeat another's question, which makes the intervals too narrow")
    console.print(
        f"at most about {money(most)}, and {money(usual)} with {_ANSWER_TOKENS} tokens an answer, all from the largest"
        " tier; what the judge leaves open comes to it"
    )


def _show(console: Console, found: list[Parity], tolerance: float) -> None:
    losses = figures_table("category", "by", "cases", "right", "lost (95 %)", "at most", "")
    costs = figures_table("category", "untold", "unanswered", "cost", "all large", "routed to")
    for each in found:
        right = "-" if each.right is None else f"{each.right[0]:.1%} of {each.right[1]:.1%}"
        lost = "-" if each.lost is None else f"{each.lost.mean:.1%} ({each.lost.low:.1%} to {each.lost.high:.1%})"
        finding = each.finding(tolerance)
        verdict = Text(finding, style=_COLOURS[finding])
        losses.add_row(each.category, each.by, f"{each.cases:,}", right, lost, f"{each.bounds[1]:.1%}", verdict)
        tiers = ", ".join(f"{tier} {count:,}" for tier, count in Counter(each.tiers).most_common())
        open_ones = f"{each.untold:,}", f"{each.unanswered:,}"
        costs.add_row(each.category, *open_ones, money(each.cost[0]), money(each.cost[1]), tiers)
    for table in (losses, costs):
        console.print()
        console.print(table)
