"""`forebay reuse`: which answers were given by meaning, and why."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click
import msgspec
from forebay_jobs.caches.hits import HitStore, KnownHit
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.embedding import version_of
from forebay_jobs.messages import asker_name, tenant_of
from forebay_jobs.reuse.bounded import BoundedReuse
from forebay_jobs.reuse.namespaces import Namespaces
from forebay_schemas.config import Config
from forebay_schemas.metrics import JobMetrics
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .options import cli_config
from .tables import figures_table

_SHOWN_FEATURES = 8


@click.group()
def reuse() -> None:
    """Look at what was answered from the cache by meaning. Redis remembers it for semantic.hits_kept_s, a day."""


@reuse.command()
@click.argument("request_id")
@click.option("--tenant", default="default", show_default=True, help="Whose request it is.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known as JSON.")
def explain(request_id: str, tenant: str, as_json: bool) -> None:
    """Show why REQUEST_ID was given another question's answer.

    \b
      forebay reuse explain row-17 --tenant acme
    """
    config = cli_config()
    store = _store(config)
    known = HitStore(config, store).find(asker_name(tenant, request_id))
    if known is None:
        raise click.ClickException(
            f"no answer by meaning is known for the request {request_id} of {tenant}: it was answered in another way"
            f" (its reply's cache_status tells), was asked by another tenant (--tenant), or longer ago than"
            f" semantic.hits_kept_s, {config.semantic.hits_kept_s:,} s"
        )
    if as_json:
        click.echo(msgspec.json.encode(_plain(known)))
        return
    console = Console(highlight=False)
    console.print(_story(known))
    policy = Namespaces(config, store, version_of(config.embedding)).peek(known.hit.owner, known.hit.category)
    if isinstance(policy, BoundedReuse) and known.hit.decision.vector:
        wrong, effects = policy.explain(known.hit.decision)
        console.print(f"\nBy what is known now it would be wrong with a chance of {wrong:.1%}. What speaks for it:")
        table = figures_table("feature", "for (+) or against (-)", "value")
        values = dict(zip(effects, known.hit.decision.vector, strict=True))
        for name in sorted(effects, key=lambda name: -abs(effects[name]))[:_SHOWN_FEATURES]:
            table.add_row(name, f"{effects[name]:+.2f}", f"{values[name]:.2f}")
        console.print(table)


@reuse.command()
@click.option("--worst", "count", default=20, show_default=True, type=click.IntRange(min=1, max=1_000),
              help="How many to list.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each.")
def hits(count: int, as_json: bool) -> None:
    """List the answers by meaning that most need a look: first what was complained about, then the most doubtful.

    \b
      forebay reuse hits --worst 50
    """
    found = HitStore(config := cli_config(), _store(config)).worst(count)
    if as_json:
        for known in found:
            click.echo(msgspec.json.encode(_plain(known)))
        return
    if not found:
        click.echo("no answer was given by meaning of late")
        return
    Console(highlight=False).print(_listed(found))


def _store(config: Config) -> RedisStore:
    store = RedisStore(config, JobMetrics(CollectorRegistry()))
    if not store.call(lambda client: bool(client.ping()), False):
        address = config.redis.url.get_secret_value().rsplit("@", 1)[-1]
        raise click.ClickException(f"redis.url: nothing answers at {address}; is the stack running? (forebay status)")
    return store


def _story(known: KnownHit) -> Text:
    hit, decision = known.hit, known.hit.decision
    lines = [
        ("asked", hit.question),
        ("answered as", hit.matched_question),
        ("at", _time(hit.given_ms)),
        ("category", hit.category),
        ("key", hit.digest),
        ("similarity", f"{decision.similarity:.4f}" if decision.similarity is not None else "-"),
        ("decided by", _reason(known)),
        ("complaint", known.complaint or "none"),
    ]
    text = Text()
    for title, value in lines:
        text.append(f"{title:<12}", style="bold").append(f"{value}\n")
    text.right_crop(1)
    return text


def _reason(known: KnownHit) -> str:
    decision = known.hit.decision
    if decision.wrong is None:
        return f"{decision.policy}: at least as similar as {decision.threshold:.4f}"
    return (
        f"{decision.policy}: wrong with a chance of {decision.wrong:.2%}, charged as {decision.charge:.2%}; what was up"
        f" to {decision.price:.2%} was reused"
    )


def _listed(found: Sequence[KnownHit]) -> Table:
    table = figures_table("asked, and answered as", "request", "tenant", "similarity", "doubt", "complaint")
    for known in found:
        hit = known.hit
        pair = Text.assemble(hit.question, "\n", (hit.matched_question, "dim"))
        tenant, request_id = tenant_of(hit.name)
        similarity = "-" if hit.decision.similarity is None else f"{hit.decision.similarity:.3f}"
        table.add_row(pair, request_id, tenant, similarity, f"{hit.doubt:.1%}", known.complaint or "")
    return table


def _plain(known: KnownHit) -> dict[str, object]:
    hit = known.hit
    tenant, request_id = tenant_of(hit.name)
    told = msgspec.to_builtins(msgspec.structs.replace(hit, vector=b""))
    del told["vector"], told["name"]
    return {"request_id": request_id, "tenant": tenant, **told, "complaint": known.complaint}


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
