"""`forebay ask`, `cancel`, `feedback`, `send` and `tail`: the client from a shell."""

import sys
from typing import BinaryIO

import click
import msgspec
from forebay_client import Client, Reply, RequestFailed, Stream, StreamRestarted
from forebay_client.requests import RequestFields
from forebay_schemas.batches import is_batch
from forebay_schemas.records import Lane, Verdict
from rich.console import Console
from rich.text import Text

from .options import cli_config
from .reply_lines import attribution, reply_line
from .sending import Sending

_VERDICTS = click.Choice([verdict.value for verdict in Verdict])
_LANES = click.Choice([lane.value for lane in Lane])


@click.command()
@click.argument("question")
@click.option("--tenant", default="default", show_default=True, help="Whose question it is; answers are kept apart.")
@click.option("--category", help="Names the settings for reuse and routing.")
@click.option("--system", help="System prompt.")
@click.option("--lane", type=_LANES, help="interactive (default), or batch: cheaper, and answered when there is room.")
@click.option("--min-tier", help="The smallest tier that may answer.")
@click.option("--max-tier", help="The largest tier that may answer.")
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds to wait; also the deadline.")
@click.option("--stream", "as_stream", is_flag=True, help="Print the answer while it is written.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole reply as JSON.")
def ask(
    question: str,
    tenant: str,
    category: str | None,
    system: str | None,
    lane: str | None,
    min_tier: str | None,
    max_tier: str | None,
    timeout_s: float,
    as_stream: bool,
    as_json: bool,
) -> None:
    """Ask one QUESTION and wait for its answer.

    The answer goes to standard output. Where it came from, how fast and for how much goes to standard error. The exit
    code is 1 where there is no answer. Ctrl-C cancels the request.

    \b
      forebay ask "How do I reset my password?" --tenant acme --category support
      forebay ask "How can I reset my password?" --tenant acme --category support   # a rewording: from the cache
      forebay ask "Prove that the square root of 2 is irrational." --min-tier medium --stream
      forebay ask "How long is delivery?" --json | jq .route
    """
    if as_stream and as_json:
        raise click.UsageError("--stream prints the text and --json the reply; leave one of them out")
    fields = RequestFields(category=category, system=system, lane=lane, min_tier=min_tier, max_tier=max_tier)
    try:
        with Client(tenant, config=cli_config()) as client:
            if as_stream:
                with client.stream(question, timeout_s=timeout_s, **fields) as stream:
                    reply = _print_pieces(stream)
            else:
                reply = client.ask(question, timeout_s=timeout_s, **fields)
    except RequestFailed as error:
        if as_json:
            click.echo(_json(error.reply))
        raise
    except KeyboardInterrupt:
        click.secho("\nthe request is cancelled", dim=True, err=True)
        raise
    if as_json:
        click.echo(_json(reply))
        return
    if not as_stream:
        click.echo(reply.text)
    click.secho(attribution(reply), dim=True, err=True)


@click.command()
@click.argument("request_id", metavar="ID")
@click.option("--tenant", default="default", show_default=True, help="Whose request it is.")
def cancel(request_id: str, tenant: str) -> None:
    """Take the request ID back.

    If it waits or is being answered, it ends in an error reply with the code `cancelled`, and no further token is spent
    on it unless others wait for the same answer. A request that is answered already stays answered.

    \b
      forebay cancel row-17 --tenant acme
    """
    if is_batch(request_id):  # the command alone would leave its file being sent
        raise click.UsageError(f"{request_id} is a batch; take it back with `forebay batch cancel {request_id}`")
    with Client(tenant, config=cli_config()) as client:
        client.cancel(request_id)
    click.echo(
        f"request {request_id} of tenant {tenant} is taken back: it ends as cancelled unless it is answered already"
    )


@click.command()
@click.argument("request_id", metavar="ID")
@click.argument("verdict", type=_VERDICTS)
@click.option("--tenant", default="default", show_default=True, help="Whose request it is.")
@click.option("--user", help="Who says so; of what one user says the latest counts.")
@click.option("--reason", help="A short code of your own: wrong, outdated, too-long.")
@click.option("--refined-by", metavar="ID", help="The later request that asked the same in other words.")
def feedback(
    request_id: str, verdict: str, tenant: str, user: str | None, reason: str | None, refined_by: str | None
) -> None:
    """Say that the answer to the request ID was good (up) or bad (down).

    `forebay report` shows where bad answers come from. Said again by the same user, the latest counts.
    The exit code is 1 where the brokers did not take it.

    \b
      forebay feedback row-17 up --tenant acme
      forebay feedback row-17 down --tenant acme --user ada --reason outdated
      forebay feedback row-17 down --tenant acme --refined-by row-18
    """
    with Client(tenant, config=cli_config()) as client:
        client.feedback(request_id, verdict, user=user, reason=reason, refined_by=refined_by)
    click.echo(f"thumbs {verdict} for request {request_id} of tenant {tenant} is published")


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--tenant", help="Whose requests they are, where a line does not say.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Most requests a second; absent: no limit.")
@click.option("--wait", is_flag=True, help="Print each reply as it comes, and their sums at the end.")
@click.option(
    "--timeout",
    "patience_s",
    default=300.0,
    show_default=True,
    help="With --wait: give up when all is sent and no reply has come for so many seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="With --wait: print each reply as JSON, a line each.")
def send(file: BinaryIO, tenant: str | None, rate: float | None, wait: bool, patience_s: float, as_json: bool) -> None:
    """Publish the requests in FILE, one JSON object a line; - is standard input.

    A line holds the fields of a request, or just a question. Ids and times are added where they are absent; a line
    that has a request_id may be sent again, and is answered once.

    \b
      {"question": "How long is delivery?"}
      {"question": "Summarise: ...", "tenant": "acme", "lane": "batch", "category": "extraction", "max_tokens": 60}
      {"request_id": "row-17", "system": "Answer in French.", "messages": [{"role": "user", "content": "Hello"}]}

    A line that cannot be sent is reported with its number, the field and how to mend it. The others are sent, and the
    exit code is 1.

    \b
      forebay send requests.jsonl --tenant acme --wait
      forebay send nightly.jsonl --tenant acme --rate 200
      generate-questions | forebay send - --wait --json > replies.jsonl
    """
    with Client(tenant, config=cli_config()) as client:
        sending = Sending(client, wait=wait, as_json=as_json)
        sending.run(file, rate, patience_s)
    if sending.failed:
        sys.exit(1)


@click.command()
@click.option("--tenant", help="Only this tenant's replies.")
@click.option("--from-beginning", is_flag=True, help="All replies that Kafka still has, not only those from now on.")
@click.option("--json", "as_json", is_flag=True, help="Print each reply as JSON, a line each.")
def tail(tenant: str | None, from_beginning: bool, as_json: bool) -> None:
    """Follow the reply topic: every reply as it comes, until Ctrl-C.

    Looking on changes nothing for those who wait for the replies.

    \b
      forebay tail --tenant acme
      forebay tail --json | jq 'select(.error)'
      forebay tail --from-beginning --json > all-replies.jsonl
    """
    config = cli_config()
    out = Console()
    width = out.width if out.is_terminal else None
    with Client(config=config) as client:
        replies = client.watch(from_beginning=from_beginning)
        click.secho(f"following {config.kafka.topics.replies} at {config.kafka.bootstrap}", dim=True, err=True)
        for reply in replies:
            if tenant in (None, reply.tenant):
                line = Text(_json(reply)) if as_json else reply_line(reply, reply.tenant, width)
                out.print(line, soft_wrap=True)


def _print_pieces(stream: Stream) -> Reply:
    try:
        while True:
            try:
                for piece in stream:
                    click.echo(piece, nl=False)
                return stream.reply
            except StreamRestarted:
                click.echo()
                click.secho("the answer begins anew:", dim=True, err=True)
    finally:
        click.echo()


def _json(reply: Reply) -> str:
    return msgspec.json.encode(reply).decode()
