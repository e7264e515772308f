"""`forebay replay` and `forebay acceptance`: traffic through the running pipeline, and what it came to."""

import json
import sys
import uuid
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import click
from forebay_client import Client
from rich.console import Console

from ..json_files import write_json
from ..replay.acceptance import QUERIES, Verdict, traffic, verdicts
from ..replay.account import Account, account
from ..replay.player import Player, Standing, await_first_answer
from ..replay.run import Run
from ..traces.arrivals import Arrival
from ..traces.pacing import at_rate, at_speed, sampled
from ..traces.reading import read_trace
from ..traces.texts import LabelledText, drawn, in_order, read_texts, with_texts
from .interrupts import stoppable
from .options import cli_config
from .progress import ConsoleProgress
from .replay_tables import show

_POSITIVE = click.FloatRange(min=0, min_open=True)


def _fields(_: click.Context, __: click.Parameter, value: str) -> dict[str, Any]:
    try:
        fields = json.loads(value)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise click.BadParameter(f"""{value!r} is no JSON object; give one such as '{{"category": "support"}}'""")
    return fields


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of both commands."""
    options = (
        click.option("--seed", default=1, show_default=True, help="The same seed draws the same trace."),
        click.option("--warm", is_flag=True, help="Reuse what the caches hold from before; else each run begins cold."),
        click.option("--timeout", "patience_s", default=60.0, show_default=True, type=_POSITIVE,
                     help="Give up when all is sent and no reply has come for so many seconds."),
        click.option("--write", "written", type=click.File("wb"), help="Write the trace as played, in our own form."),
        click.option("--dry-run", is_flag=True, help="Check (and write) the trace, and send nothing."),
        click.option("--json", "json_file", type=click.Path(dir_okay=False, writable=True, path_type=Path),
                     help="Write all figures here."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("trace", type=click.File("rb"))
@click.option("--texts", type=click.File("rb"), multiple=True,
              help="Labelled texts that are asked, for a trace without any; may be given several times.")  # fmt: skip
@click.option("--order", type=click.Choice(["file", "popular"]), default="file", show_default=True,
              help="Texts as the file has them, or some often and most seldom.")  # fmt: skip
@click.option("--speed", type=_POSITIVE, help="So many times as fast as it was recorded; absent: 1.")
@click.option("--rate", type=_POSITIVE, help="In place of --speed: requests a second on average.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many requests, from the beginning.")
@click.option("--sample", type=click.IntRange(min=1), help="In place of --limit: so many, drawn from the whole trace.")
@click.option(
    "--tenant", default="replay", show_default=True, help="Whose requests they are, where a line does not say."
)
@click.option("--fields", default="{}", callback=_fields, help="Fields of every request whose line does not have them.")
@_common
def replay(
    trace: BinaryIO,
    texts: tuple[BinaryIO, ...],
    order: str,
    speed: float | None,
    rate: float | None,
    limit: int | None,
    sample: int | None,
    tenant: str,
    fields: dict[str, Any],
    seed: int,
    **common: Any,
) -> None:
    """Play a TRACE through the running pipeline, at its own times or faster, and report what came back.

    A trace is plain or gzip, and its first line tells its form: the Azure LLM inference trace (CSV), a Mooncake trace
    (JSON lines), or our own, which is what `forebay send` takes and two fields more:

    \b
      {"at_ms": 0, "question": "How long is delivery?", "label": "delivery time"}
      {"at_ms": 420.5, "question": "How do I return it?", "category": "support", "prompt_tokens": 310}

    The public traces tell only arrivals and token counts; --texts says what is asked: JSON lines with `text` and
    `label`, `intent` or `class`. Requests are sent at their moments, however many are unanswered, and latency counts
    from there. An answer that is reused for a request with another label is counted as wrong.

    Ctrl-C sends no more, takes back what is unanswered, and reports what came until then.

    \b
      forebay replay azure.csv.gz --texts questions.jsonl.gz --speed 10 --limit 5000
      forebay replay recorded.jsonl --rate 50 --json figures.json
      forebay replay mooncake.jsonl --texts questions.jsonl --order popular --dry-run --write trace.jsonl
    """
    if speed and rate:
        raise click.UsageError("--speed and --rate both say how fast; leave one of them out")
    if limit and sample:
        raise click.UsageError("--limit and --sample both say how many; leave one of them out")
    recorded = read_trace(trace)
    arrivals: Iterable[Arrival] = sampled(recorded, sample, seed) if sample else islice(recorded, limit)
    if texts:
        asked = _texts(texts)
        arrivals = with_texts(arrivals, drawn(asked, seed) if order == "popular" else in_order(asked))
    filled = [arrival.with_defaults({"tenant": tenant} | fields) for arrival in arrivals]
    if not filled:
        raise click.BadParameter("holds no request", param_hint="TRACE")
    if not texts and not any(arrival.asks for arrival in filled):
        raise click.UsageError("this trace tells no texts; say with --texts FILE what is asked")
    _play(at_rate(filled, rate) if rate else at_speed(filled, speed or 1.0), **common)


@click.command()
@click.option("--texts", type=click.File("rb"), multiple=True, required=True,
              help="Labelled texts of a support desk; may be given several times.")  # fmt: skip
@click.option("--queries", default=QUERIES, show_default=True, type=click.IntRange(min=1), help="Requests to send.")
@click.option("--rate", default=20.0, show_default=True, type=_POSITIVE, help="Requests a second on average.")
@_common
def acceptance(texts: tuple[BinaryIO, ...], queries: int, rate: float, seed: int, **common: Any) -> None:
    """Play a support desk's traffic through the running pipeline, and say whether the goals are met.

    The goals: cost at least 80 % below that of the largest tier, and less than 0.3 % of the requests answered with
    another question's answer. The texts are JSON lines with `text` and `label`, `intent` or `class`: some questions
    are asked often and most seldom (Zipf's law), word for word or in other words of the same label. Customers come
    independently of each other. The pipeline runs with its own settings; nothing is tuned.

    \b
      forebay acceptance --texts banking77_train.jsonl.gz --texts banking77_test.jsonl.gz
      forebay acceptance --texts questions.jsonl --queries 1000 --rate 5 --json acceptance.json
    """
    _play(list(traffic(_texts(texts), queries, rate, seed)), judged=verdicts, **common)


def _texts(files: Sequence[BinaryIO]) -> list[LabelledText]:
    texts = [text for file in files for text in read_texts(file)]
    if not texts:
        raise click.BadParameter("holds no line; give one text a line", param_hint="--texts")
    return texts


def _play(
    arrivals: Sequence[Arrival],
    *,
    warm: bool,
    patience_s: float,
    written: BinaryIO | None,
    dry_run: bool,
    json_file: Path | None,
    judged: Callable[[Account], list[Verdict]] = lambda _: [],
) -> None:
    config = cli_config()
    run = Run(uuid.uuid4().hex[:8], warm)
    run.check(arrivals, config)
    if written:
        written.writelines(arrival.line() for arrival in arrivals)
        written.flush()
    if dry_run:
        click.echo(f"{len(arrivals):,} requests in {arrivals[-1].at_ms / 1000:,.0f} s; nothing was sent", err=True)
        return
    with Client(config=config) as client, ConsoleProgress(Console(stderr=True)) as progress:

        def told(now: Standing) -> None:
            failed = f", {now.failed:,} failed" if now.failed else ""
            progress.counting(f"{now.sent:,} of {len(arrivals):,} sent, {now.replies:,} answered{failed}")

        progress.doing("waiting for a first answer")
        await_first_answer(client, run, arrivals[0])
        with stoppable() as stopped:
            player = Player(client, run, told=told, stopped=stopped, patience_s=patience_s)
            played = player.play(arrivals)
        progress.counting("adding up")
        found = account(run, played, config)
    goals = judged(found)
    if json_file is not None:
        write_json(json_file, {"replay": found, "goals": goals})
    show(Console(), found, config, goals)
    if stopped():
        raise click.Abort
    if found.unanswered:
        sys.exit(1)
