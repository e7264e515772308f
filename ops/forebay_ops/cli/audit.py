"""`forebay audit`: what would be saved on the calls of a log, before anything is adopted."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import click
from forebay_schemas.tiers import Price
from rich.console import Console

from ..audit.accounting import Audit
from ..audit.prices import UnknownModels, prices_of_log
from ..audit.questions import MOST_QUESTIONS, Questions
from ..audit.reading import Call, LogReader
from ..audit.report import report_of
from ..audit.run import run
from ..json_files import write_json
from ..local.effective import PROFILE
from .audit_tables import show
from .embedder import loaded_embedder
from .interrupts import stoppable
from .options import cli_config
from .progress import ConsoleProgress


class _ModelPrice(click.ParamType):
    name = "MODEL=IN/OUT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Price]:
        model, _, text = str(value).rpartition("=")
        fields = ("input_per_1k", "output_per_1k", "cached_input_per_1k")
        amounts = text.split("/")
        try:
            price = Price.model_validate(dict(zip(fields, amounts, strict=len(amounts) > len(fields))))
        except ValueError:
            price = None
        if not model or price is None:
            self.fail(f"{value!r} is no model and price; give one such as gpt-4o=0.0025/0.01", param, ctx)
        return model, price


@click.command()
@click.argument("logs", type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True), nargs=-1,
                required=True)  # fmt: skip
@click.option("--price", "prices", type=_ModelPrice(), multiple=True,
              help="Of a model of the log, dollars per 1,000 tokens; IN/OUT/CACHED where that costs less.")  # fmt: skip
@click.option("--tenant", default="default", show_default=True, help="Whose calls they are, where a line does not say.")
@click.option("--category", help="Their category, where a line does not say: names the settings for reuse and routing.")
@click.option("--embed-at-most", default=MOST_QUESTIONS, show_default=True, type=click.IntRange(min=0),
              help="Distinct questions to embed; later ones are not compared. 0: no near repeats.")  # fmt: skip
@click.option("--no-texts", is_flag=True, help="Show and write no word of the log.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False, writable=True),
              help="Write all figures here, as JSON.")  # fmt: skip
def audit(
    logs: tuple[str, ...],
    prices: tuple[tuple[str, Price], ...],
    tenant: str,
    category: str | None,
    embed_at_most: int,
    no_texts: bool,
    out: Path | None,
) -> None:
    """Read call LOGS, and tell what Forebay would save on them. Nothing has to run, and nothing is sent anywhere.

    A log has one JSON object a line, plain or gzip; - is standard input. It holds the request as it was sent to an
    OpenAI-style API and the `usage` of the response, nested or flat, and best the time:

    \b
      {"timestamp": "2026-11-21T07:00:03Z", "request": {"model": ..., "messages": [...]}, "response": {"usage": ...}}
      {"custom_id": "row-1", "body": {"model": ..., "messages": [...]}, "response": {"body": {"usage": ...}}}
      {"model": ..., "prompt": "...", "usage": {"prompt_tokens": 57, "completion_tokens": 12}, "created": 1790000000}

    Repeats are found, held back and routed by the job's own rules, under the configuration that FOREBAY_CONFIG
    names, else the local profile's. Near repeats are an upper bound: whether they ask for the same answer, nobody
    has judged. Ctrl-C gives the report of what was read so far.

    \b
      forebay audit calls.jsonl --price gpt-4o=0.0025/0.01
      forebay audit 2026-*.jsonl.gz --price gpt-4o=0.0025/0.01/0.00125 --category support --out report.json
      zcat calls.gz | forebay audit - --price gpt-4o=0.0025/0.01 --embed-at-most 0
    """
    config = cli_config(PROFILE)
    priced = prices_of_log(config, dict(prices))
    reader, files = LogReader(config, tenant=tenant, category=category), _Files(logs)
    with stoppable() as stopped, ConsoleProgress(Console(stderr=True)) as progress:
        embedder = loaded_embedder(config, progress, "use --embed-at-most 0") if embed_at_most else None
        questions = Questions(embedder, embed_at_most, keep_texts=not no_texts)
        found = Audit(config, priced, questions)

        def told() -> None:
            progress.counting(f"{found.calls:,} calls{files.share_read()}, {len(questions):,} questions embedded")

        try:
            run(files.calls(reader), found, priced, told, stopped)
        except UnknownModels as error:
            raise click.BadParameter(str(error), param_hint="--price") from None
        if not found.calls:
            if stopped():
                raise click.Abort
            raise click.BadParameter(_nothing_read(reader), param_hint="LOGS")
        progress.counting("adding up")
        report = report_of(found, reader)
    if out is not None:
        write_json(out, report)
    show(Console(), report)
    if stopped():
        click.echo("\nforebay: stopped; this is the report of what was read until then", err=True)
        sys.exit(130)


class _Files:
    """The files of a log, and how much of them is read."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        regular = all(Path(name).is_file() for name in names)
        self._bytes = sum(Path(name).stat().st_size for name in names) if regular else 0
        self._read = 0
        self._open: BinaryIO | None = None

    def calls(self, reader: LogReader) -> Iterator[Call]:
        """The calls of all files, one after the other."""
        for name in self._names:
            with click.open_file(name, "rb") as file:
                self._open = binary = cast(BinaryIO, file)
                yield from reader.calls(Path(name).name, binary)
            self._open = None
            self._read += Path(name).stat().st_size if self._bytes else 0

    def share_read(self) -> str:
        """Nothing for a pipe, whose end nobody knows."""
        if not self._bytes:
            return ""
        read = self._read + (self._open.tell() if self._open else 0)
        return f", {read / self._bytes:.0%} of the log"


def _nothing_read(reader: LogReader) -> str:
    if not reader.lines and not reader.problems:
        return "holds no line; give a log with one JSON object a line"
    if not reader.problems:
        return f"holds {reader.failed} failed calls and no other; give a log with answered ones"
    return "no call could be read: " + "; ".join(reader.problems)
