"""`forebay check-prompts`: finds what changes from request to request in prompts that should stay the same."""

import sys
from collections.abc import Iterator
from typing import BinaryIO

import click
import msgspec
from forebay_schemas.errors import RecordError
from forebay_schemas.records import Request
from rich.console import Console
from rich.text import Text

from ..prefixes.check import Checked, Finding, check
from ..request_lines import LineError, numbered, parse_object, request_of
from ..request_log import newest_requests
from .options import cli_config


@click.command("check-prompts")
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--topic", is_flag=True, help="Check the newest requests of the request topics instead of a file.")
@click.option("--newest", default=1000, show_default=True, type=click.IntRange(min=1), help="With --topic: how many.")
@click.option(
    "--tenant", default="default", show_default=True, help="Whose requests they are, where a line does not say."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check_prompts(file: BinaryIO | None, topic: bool, newest: int, tenant: str, as_json: bool) -> None:
    """Find what changes from request to request in static prompts, and so keeps them out of prefix caches.

    A model that has read the beginning of a prompt before does not read it again, up to the first difference. A
    timestamp or a session id in a system prompt makes every prompt new from there on.

    FILE holds requests as `forebay send` takes them; - is standard input. They are compared by tenant and endpoint
    (else category): their static messages, or the system turns at the beginning where none are declared. What is the
    same in all of them is fine, dates and versions too. Where there is one request only, times, UUIDs and the like
    are named as what may change.

    \b
      forebay check-prompts requests.jsonl
      forebay check-prompts --topic --newest 5000
      forebay check-prompts --topic --json | jq '.findings[].field'

    The exit code is 1 where something was found. Nothing is changed, and nobody who consumes the topics is disturbed.
    """
    if topic == (file is not None):
        raise click.UsageError("give a FILE of requests or --topic, one of the two")
    checked = check(newest_requests(cli_config(), newest) if file is None else _requests(file, tenant))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(checked)).decode())
    else:
        _show(Console(), checked)
    if checked.findings:
        sys.exit(1)


def _requests(file: BinaryIO, tenant: str) -> Iterator[Request]:
    for number, line in numbered(file):
        try:
            request, _ = request_of(parse_object(line), tenant)
        except RecordError as error:
            raise LineError(number, error) from None
        yield request


def _show(console: Console, checked: Checked) -> None:
    for finding in checked.findings:
        for line in _lines(finding):
            console.print(line, soft_wrap=True)
        console.print()
    sums = [f"{checked.requests} requests", f"{checked.call_sites} call sites"]
    if checked.without_prefix:
        sums.append(f"{checked.without_prefix} requests without a static prompt")
    found = len(checked.findings)
    verdict = f"{found} places defeat" if found > 1 else "1 place defeats" if found else "nothing defeats"
    console.print(Text(f"{', '.join(sums)}: {verdict} prefix caches"), soft_wrap=True)


def _lines(finding: Finding) -> Iterator[Text]:
    where = f"{finding.tenant} / {finding.call_site}"
    if finding.certain:
        yield Text(f"{where}: {finding.kind} in the static prompt", style="bold red").append(
            f" ({finding.distinct} values in {finding.requests} requests)", style="default"
        )
    else:
        yield Text(f"{where}: may change: {finding.kind} in the only request", style="bold yellow")
    yield Text(f"  {finding.field}, character {finding.character}:")
    before, after = (" ".join(text.split("\n")) for text in (finding.before, finding.after))
    yield Text(f"    {before}").append(finding.examples[0], style="bold reverse").append(after)
    if finding.distinct > 1:
        yield Text(f"  also: {', '.join(repr(example) for example in finding.examples[1:])}")
    yield Text(f"  lost: about {finding.lost_tokens} of the {finding.prefix_tokens} tokens of the static prompt")
    yield Text(f"  mend: {finding.mend}")
