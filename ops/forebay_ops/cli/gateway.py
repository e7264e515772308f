"""`forebay gateway`: the OpenAI-compatible HTTP front, and the keys by which it may be called."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from forebay_gateway.keys import LIMITS, Key, KeyFile
from forebay_gateway.limits import Limits, Spent
from forebay_gateway.serve import serve
from forebay_gateway.store import connect
from forebay_schemas.config import Config, changed
from forebay_schemas.logs import write_logs
from forebay_schemas.metrics import GatewayMetrics
from prometheus_client import CollectorRegistry
from redis.exceptions import RedisError
from rich.console import Console

from ..figures import money
from .options import cli_config
from .tables import figures_table

_DEFAULT_KEYS = Path("gateway-keys.json")


@click.group(invoke_without_command=True)
@click.option("--host", help="Address to listen on; absent: gateway.host.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to listen on; absent: gateway.port.")
@click.pass_context
def gateway(context: click.Context, host: str | None, port: int | None) -> None:
    """Serve OpenAI's HTTP interface in front of the pipeline, until Ctrl-C or SIGTERM.

    A service that uses OpenAI's clients changes their base URL, and no more. Several copies may run behind a load
    balancer. Running calls are finished before it ends. Without keys it takes calls from this machine alone.

    \b
      forebay gateway
      curl localhost:8090/v1/chat/completions -H 'content-type: application/json' \\
        -d '{"model": "auto", "messages": [{"role": "user", "content": "How do I reset my password?"}]}'
      open http://localhost:8090/       # what it does now, and a box to try a prompt

    \b
      forebay gateway keys create --tenant acme --requests-per-min 600 --usd-per-month 50
      FOREBAY_GATEWAY__KEY_FILE=gateway-keys.json forebay gateway --host 0.0.0.0
    """
    if context.invoked_subcommand is not None:
        return
    asked = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    config = changed(cli_config(), {"gateway": asked})
    write_logs(config.logs)
    serve(config)


@gateway.group()
def keys() -> None:
    """Make, list, change and revoke keys. They lie as hashes in the file gateway.key_file, else ./gateway-keys.json.

    Running gateways notice a change within a second. Several copies read the same file, such as a mounted secret.
    """


def _limits(command: Any) -> Any:
    """The options by which a limit is given."""
    options = {
        "--requests-per-min": (click.IntRange(min=0), "Calls a minute."),
        "--tokens-per-min": (click.IntRange(min=0), "Generated and read tokens a minute."),
        "--usd-per-day": (click.FloatRange(min=0), "US dollars a day, by UTC."),
        "--usd-per-month": (click.FloatRange(min=0), "US dollars a month, by UTC."),
    }
    for name, (kind, text) in reversed(options.items()):
        command = click.option(name, type=kind, help=f"{text} 0: no limit.")(command)
    return command


@keys.command()
@click.option("--tenant", required=True, help="Whose calls are made with it.")
@click.option("--note", default="", help="For people: what it is for, who has it.")
@click.option("--sees-all", is_flag=True, help="The page shows it the traffic of all tenants.")
@_limits
def create(tenant: str, note: str, sees_all: bool, **limits: float | None) -> None:
    """Make a key, and print it: the one time that it can be seen.

    \b
      forebay gateway keys create --tenant acme --note "shop, production" --requests-per-min 600 --usd-per-day 20
    """
    file = _file()
    key, text = KeyFile(file).create(tenant, note=note, sees_all=sees_all, **_given(limits))
    click.echo(text)
    click.secho(f"key {key.id} of {tenant} is in {file}, as a hash", dim=True, err=True)
    if cli_config().gateway.key_file is None:
        click.secho(f"start gateways with FOREBAY_GATEWAY__KEY_FILE={file}", dim=True, err=True)


@keys.command(name="list")
def list_() -> None:
    """List all keys, with what those with limits have spent where Redis tells it."""
    config, file = cli_config(), _file()
    known = KeyFile(file).read()
    if not known:
        click.echo(f"there is no key in {file}; make one with `forebay gateway keys create --tenant ...`")
        return
    spent = asyncio.run(_spent(config, list(known.values())))
    table = figures_table("whose", "key", "a minute", "spent today", "this month", "revoked")
    for key in known.values():
        told = spent.get(key.id) if key.limited else None  # without a limit nothing is counted
        table.add_row(
            f"{key.tenant}: {key.note}" if key.note else key.tenant,
            key.id,
            _a_minute(key),
            _of(told and told.day_usd, key.usd_per_day),
            _of(told and told.month_usd, key.usd_per_month),
            _day(key.revoked_ms) if key.revoked_ms else "",
        )
    Console().print(table)


@keys.command(name="set")
@click.argument("key_id", metavar="ID")
@click.option("--note", help="For people.")
@_limits
def set_(key_id: str, note: str | None, **limits: float | None) -> None:
    """Change the limits of the key ID; what is not given stays as it is.

    \b
      forebay gateway keys set 0f3c5a7e9b1d --usd-per-month 200
      forebay gateway keys set 0f3c5a7e9b1d --requests-per-min 0    # no limit any more
    """
    changes: dict[str, Any] = _given(limits) | ({} if note is None else {"note": note})
    if not changes:
        raise click.UsageError("nothing is changed; give a limit or a note")
    key = KeyFile(_file()).change(key_id, **changes)
    told = ", ".join(f"{name} {getattr(key, name) or 'none'}" for name in LIMITS)
    click.echo(f"key {key.id} of {key.tenant}: {told}")


@keys.command()
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """Take the key ID back: no call is taken with it from the next second on."""
    key = KeyFile(_file()).change(key_id, revoked_ms=time.time_ns() // 1_000_000)
    click.echo(f"key {key.id} of {key.tenant} is revoked")


def _file() -> Path:
    return cli_config().gateway.key_file or _DEFAULT_KEYS


def _given(limits: dict[str, float | None]) -> dict[str, float | None]:
    """The limits that are given; 0 takes one away."""
    return {name: limit or None for name, limit in limits.items() if limit is not None}


async def _spent(config: Config, known: list[Key]) -> dict[str, Spent]:
    store = connect(config)
    limits = Limits(config, store, GatewayMetrics(CollectorRegistry()))
    now = datetime.now(UTC)
    try:
        return {key.id: await limits.spent(key, now) for key in known}
    except (RedisError, OSError):
        return {}
    finally:
        await store.aclose()


def _a_minute(key: Key) -> str:
    limits = {"calls": key.requests_per_min, "tokens": key.tokens_per_min}
    return ", ".join(f"{limit:,} {what}" for what, limit in limits.items() if limit) or "-"


def _of(spent_usd: float | None, limit_usd: float | None) -> str:
    limit = "" if limit_usd is None else f" of {money(limit_usd)}"
    return f"{money(spent_usd)}{limit}"


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")
