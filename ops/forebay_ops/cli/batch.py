"""`forebay batch`: a file of rows as requests on the batch lane, each sent once and answered once."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from forebay_client.batch import Batch, BatchStatus, Written, known_batches
from forebay_schemas.batches import Stage
from forebay_schemas.records import CachePolicy, CacheScope
from rich.console import Console

from ..figures import money
from .batch_tables import AnsweredBar, Counter, SentBar, batches_table, projection_table, sample_table, status_table
from .exits import CEILING, ENDED, ROWS_FAILED, UNFINISHED
from .options import cli_config

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUT = click.Path(dir_okay=False, path_type=Path)
_POLICIES = click.Choice([policy.value for policy in CachePolicy])
_SCOPES = click.Choice([scope.value for scope in CacheScope])
_POSITIVE = click.FloatRange(min=0, min_open=True)
_CEILING = click.option(
    "--price-ceiling", type=_POSITIVE, metavar="USD", help="Stop before the batch could cost more than so many dollars."
)
_JOURNAL = click.option(
    "--journal", "journals", type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the copies of replies, which are caches; else forebay/batches in the user's cache folder.",
)  # fmt: skip
_RESULTS = (
    click.option("-o", "--output", type=_OUT, help="Where answers go; else NAME.output.SUFFIX beside the input."),
    click.option("--errors", type=_OUT, help="Where errors go; else NAME.errors.jsonl beside the input."),
    click.option("--out-column", metavar="COLUMN", help="Of CSV and Parquet: the new column; else answer."),
)
_ERR = Console(stderr=True)


@click.group()
def batch() -> None:
    """Send a file of requests on the batch lane, at its price, each row once.

    \b
      forebay batch submit requests.jsonl --tenant acme --wait
      forebay batch submit reviews.csv --tenant acme --template "Classify as good or bad: {text}" --id sku --wait
      forebay batch watch batch_0123456789abcdef01234567

    The same command again goes on where a crash or Ctrl-C stopped it. Exit codes of `submit --wait`, `resume --wait`,
    `watch` and `results`: 0 every row has its answer, 1 the command could not do its work, 3 some rows ended in an
    error, 4 it stopped at the price ceiling, 5 it was cancelled or its window ended, 6 it is not finished.
    """


def _with_results(command: Any) -> Any:
    for option in reversed(_RESULTS):
        command = option(command)
    return command


@batch.command()
@click.argument("file", type=_FILE)
@click.option("--tenant", required=True, help="Whose requests they are.")
@click.option("--run", metavar="NAME", help="Another run of the same file, a date for example: another batch.")
@click.option("--template", metavar="TEXT|FILE", help="Of CSV and Parquet: the prompt, with {column} where cells go.")
@click.option("--system", help="Of CSV and Parquet: the system prompt.")
@click.option("--id", "id_column", metavar="COLUMN", help="Of CSV and Parquet: the rows' names; else their numbers.")
@click.option("--category", help="Names the settings for reuse and routing.")
@click.option("--endpoint", help="The name under which reports show it.")
@click.option("--min-tier", help="The smallest tier that may answer.")
@click.option("--max-tier", help="The largest tier that may answer.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Most tokens of an answer.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="Above the category's limit nothing is reused.")
@click.option("--cache", "cache_policy", type=_POLICIES, help="What it may do with the caches.")
@click.option("--cache-scope", type=_SCOPES, help="Who may share the answers; else the tenant.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Goes with every request; may be repeated.")
@click.option("--completion-window", "window_h", type=_POSITIVE, metavar="HOURS",
              help="After that nobody needs the answers; at most, and else, worker.completion_window_s.")  # fmt: skip
@_CEILING
@click.option("--reply-topic", help="One of kafka.reply_topics, where replies go; else the standard one.")
@click.option("--dry-run", is_flag=True, help="Say what it would cost. Nothing is sent, except with --sample.")
@click.option("--sample", type=click.IntRange(min=1), metavar="ROWS",
              help="With --dry-run: send the first so many rows, and project from their replies.")  # fmt: skip
@click.option("--wait", is_flag=True, help="Wait until all is answered, and write the results.")
@_with_results
@_JOURNAL
def submit(
    file: Path,
    tenant: str,
    window_h: float | None,
    price_ceiling: float | None,
    reply_topic: str | None,
    dry_run: bool,
    sample: int | None,
    wait: bool,
    output: Path | None,
    errors: Path | None,
    out_column: str | None,
    journals: Path | None,
    metadata: tuple[str, ...],
    cache_policy: str | None,
    cache_scope: str | None,
    **fields: Any,
) -> None:
    """Send the rows of FILE, each once, and print the id of the batch.

    FILE is .jsonl in OpenAI's batch format, one request a line, or .csv, .tsv or .parquet, of whose rows --template
    makes prompts. Braces that are no column are written double. A row that cannot be sent ends up in the error file,
    and stops no other.

    \b
      {"custom_id": "row-1", "method": "POST", "url": "/v1/chat/completions",
       "body": {"model": "auto", "messages": [{"role": "user", "content": "Summarise: ..."}]}}
      forebay batch submit requests.jsonl --tenant acme
      forebay batch submit reviews.parquet --tenant acme --template prompt.txt --id sku --out-column mood --wait
      forebay batch submit reviews.csv --tenant acme --template "Good or bad? {text}" --dry-run --sample 200

    The batch is what the file and the options about its rows say: the same command goes on with the same batch, sends
    nothing twice and leaves nothing out. To send an equal file anew, name another --run.
    """
    if sample is not None and not dry_run:
        raise click.UsageError("--sample belongs to --dry-run; leave it out, or add that")
    if out_column is not None and file.suffix.lower() == ".jsonl":
        raise click.UsageError("--out-column is for CSV and Parquet; leave it out")
    if not dry_run:
        _check_wanted(wait, output, errors, out_column)
    if metadata:
        fields["metadata"] = dict(_pair(one) for one in metadata)
    if cache_policy or cache_scope:
        chosen = {"policy": cache_policy, "scope": cache_scope}
        fields["cache"] = {name: value for name, value in chosen.items() if value}
    config = cli_config()
    if dry_run and sample is None:
        with Counter(_ERR, "rows looked at") as counter:
            projection = Batch.project(file, tenant, config=config, told=counter, **fields)
        Console().print(projection_table(projection))
        return
    with _sending() as told:
        sent = Batch.submit(
            file,
            tenant,
            config=config,
            journals=journals,
            completion_window_s=None if window_h is None else 3600 * window_h,
            price_ceiling=price_ceiling,
            reply_topic=reply_topic,
            sample=sample,
            surveyed=told.looked,
            told=told,
            **fields,
        )
    if sample is not None:
        status = _watched(sent)
        took_s = None if told.began_s is None else time.monotonic() - told.began_s
        Console().print(status_table(status), sample_table(status, took_s))
        return
    _after_sending(sent, wait, output, errors, out_column)


@batch.command()
@click.argument("batch_id", metavar="ID")
@_CEILING
@click.option("--file", type=_FILE, help="Where the input is by now, if not where it was.")
@click.option("--wait", is_flag=True, help="Wait until all is answered, and write the results.")
@_with_results
@_JOURNAL
def resume(
    batch_id: str,
    price_ceiling: float | None,
    file: Path | None,
    wait: bool,
    output: Path | None,
    errors: Path | None,
    out_column: str | None,
    journals: Path | None,
) -> None:
    """Send what is left of a batch: after a crash, a sample, or with a higher price ceiling.

    \b
      forebay batch resume batch_0123456789abcdef01234567 --price-ceiling 20 --wait
    """
    _check_wanted(wait, output, errors, out_column)
    batch = Batch(batch_id, config=cli_config(), journals=journals)
    with _sending() as told:
        batch.resume(price_ceiling=price_ceiling, file=file, told=told)
    _after_sending(batch, wait, output, errors, out_column)


@batch.command()
@click.argument("batch_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@_JOURNAL
def status(batch_id: str, as_json: bool, journals: Path | None) -> None:
    """Show how a batch stands: rows sent and answered, where answers came from, and what they cost."""
    found = Batch(batch_id, config=cli_config(), journals=journals).status()
    if as_json:
        click.echo(json.dumps(_told(found), indent=2))
    else:
        Console().print(status_table(found))


@batch.command()
@click.argument("batch_id", metavar="ID")
@_JOURNAL
def watch(batch_id: str, journals: Path | None) -> None:
    """Follow a batch until its last reply. Ctrl-C ends the watching, not the batch."""
    found = _watched(Batch(batch_id, config=cli_config(), journals=journals))
    Console().print(status_table(found))
    _exit(found, found.failed)


@batch.command()
@click.argument("batch_id", metavar="ID")
@_with_results
@click.option("--file", type=_FILE, help="Where the input is by now, if not where it was.")
@_JOURNAL
def results(
    batch_id: str,
    output: Path | None,
    errors: Path | None,
    out_column: str | None,
    file: Path | None,
    journals: Path | None,
) -> None:
    """Write what a batch came to by now, in the order of its rows.

    Of JSONL these are OpenAI's output and error files, of CSV and Parquet the input with a new column and an error
    file. Rows that are not answered yet are in neither; call it again later.

    \b
      forebay batch results batch_0123456789abcdef01234567 -o answers.jsonl --errors errors.jsonl
    """
    written = _write(Batch(batch_id, config=cli_config(), journals=journals), output, errors, out_column, file)
    _exit(written.status, written.failed)


@batch.command()
@click.argument("batch_id", metavar="ID")
@_JOURNAL
def cancel(batch_id: str, journals: Path | None) -> None:
    """Take back all rows of a batch that are not answered yet; it cannot be resumed.

    What is answered stays answered, is in the results, and is paid for.
    """
    state = Batch(batch_id, config=cli_config(), journals=journals).cancel()
    if state.stage != Stage.CANCELLED:
        click.echo(f"{batch_id} is over already; nothing is taken back")
        return
    left = state.rows - state.read
    click.echo(f"{batch_id} is taken back: {left:,} rows are not sent any more, those that wait end as cancelled")


@batch.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON, a line each.")
def list_(as_json: bool) -> None:
    """Show all batches that Kafka knows, the one that changed last first."""
    found = known_batches(cli_config())
    if as_json:
        for state in found:
            click.echo(msgspec.json.encode(state))
    else:
        Console().print(batches_table(found) if found else "no batch was submitted yet")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--metadata {text}: write it as KEY=VALUE")
    return key, value


def _check_wanted(wait: bool, output: Path | None, errors: Path | None, out_column: str | None) -> None:
    """Refuse what is said of results where none are to be written."""
    for name, value in {"--output": output, "--errors": errors, "--out-column": out_column}.items():
        if value is not None and not wait:
            raise click.UsageError(f"{name} belongs to --wait; leave it out, or add that")


@contextmanager
def _sending() -> Iterator[SentBar]:
    """Prints the id of the batch before anything is sent, and shows how its file goes out."""
    with SentBar(_ERR) as bar:
        try:
            yield bar
        except KeyboardInterrupt:
            if bar.batch_id:
                click.secho(
                    f"\nwhat is sent stays sent, each row once; go on with the same command, or take it back with"
                    f" `forebay batch cancel {bar.batch_id}`",
                    err=True,
                )
            raise


def _watched(batch: Batch) -> BatchStatus:
    with AnsweredBar(_ERR) as bar:
        try:
            return batch.wait(told=bar)
        except KeyboardInterrupt:
            click.secho(f"\nthe batch goes on; come back with `forebay batch watch {batch.batch_id}`", err=True)
            raise


def _after_sending(batch: Batch, wait: bool, output: Path | None, errors: Path | None, out_column: str | None) -> None:
    """Wait and write the results where that is wanted, else say how to come back."""
    if wait:
        found = _watched(batch)
        _ERR.print(status_table(found))
        written = _write(batch, output, errors, out_column, None)
        _exit(written.status, written.failed)
        return
    state = batch.state()
    if state.stage == Stage.CEILING:
        click.secho(
            f"stopped at the price ceiling of {money(state.price_ceiling)}: {state.read:,} of {state.rows:,} rows are"
            f" sent; go on with `forebay batch resume {state.batch_id} --price-ceiling USD`",
            err=True,
        )
        sys.exit(CEILING)
    click.secho(f"all rows are sent; follow them with `forebay batch watch {state.batch_id}`", dim=True, err=True)


def _write(
    batch: Batch, output: Path | None, errors: Path | None, out_column: str | None, file: Path | None
) -> Written:
    with Counter(_ERR, "rows written") as counter:
        written = batch.results(output, errors, out_column=out_column, file=file, told=counter)
    left = f", {written.unanswered:,} not answered yet" if written.unanswered else ""
    click.echo(f"{written.answered:,} answers in {written.output}, {written.failed:,} errors in {written.errors}{left}")
    return written


def _exit(found: BatchStatus, failed: int) -> None:
    """End with the code that says how the batch stands, and whether rows failed."""
    if found.ended and found.phase != "completed":
        sys.exit(ENDED)
    if found.phase == Stage.CEILING:
        sys.exit(CEILING)
    if not found.over:
        sys.exit(UNFINISHED)
    if failed:
        sys.exit(ROWS_FAILED)


def _told(found: BatchStatus) -> dict[str, Any]:
    """A status as programs read it."""
    state = msgspec.to_builtins(found.state)
    names = ("phase", "answered", "hits", "failed", "refused", "cost", "baseline_cost")
    replies = {kind: counted.rows for kind, counted in found.replies.items()}
    return {**state, **{name: getattr(found, name) for name in names}, "replies": replies}
