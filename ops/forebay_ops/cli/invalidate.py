"""`forebay invalidate`: answers that hold no longer."""

import datetime as dt
import os
import socket
import sys
import time
from typing import Any

import click
from forebay_client import Client, InvalidationOutcome, InvalidationPending
from forebay_client.invalidation import InvalidationFields
from forebay_schemas.config import Config

from .moments import Moment
from .options import cli_config

_QUEUED = 3
"""The exit code where it is not known yet that it holds."""


@click.command()
@click.option("--source", help="Those that depend on this data source (cache.sources of their requests).")
@click.option("--prompt-version", help="Those to requests of this prompt version.")
@click.option("--model", help="Those of this model, a name under models.")
@click.option("--category", help="Those of this category.")
@click.option("--tenant", help="Those of this tenant alone; absent: of all. Answers that tenants share stay.")
@click.option("--older-than", type=Moment(), metavar="2h|TIME", help="Those completed before; younger ones stay.")
@click.option("--key", metavar="DIGEST", help="The one entry of this digest, which `forebay reuse explain` shows.")
@click.option("--wait/--no-wait", default=True, help="Whether to return only when it holds everywhere (the default).")
@click.option("--timeout", "timeout_s", default=30.0, show_default=True, help="Seconds to wait for that.")
def invalidate(older_than: dt.datetime | None, wait: bool, timeout_s: float, **filters: str | None) -> None:
    """Let answers hold no longer: in both caches, and of generations in flight.

    Several options mean the answers that meet all of them. Of --source, --prompt-version, --model and --category give
    one, alone or with --tenant and --older-than. When the command returns, no request that is sent from then on gets an
    answer of before, in whichever process, or shares a generation that began before. All other answers stay.

    \b
      forebay invalidate --source pricing --tenant acme   # the price list of one tenant has changed
      forebay invalidate --source pricing                 # of all tenants, and of what they share
      forebay invalidate --prompt-version v7
      forebay invalidate --model llama-3.1-8b --older-than 2026-11-21T09:00
      forebay invalidate --tenant acme                    # all that was written for acme
      forebay invalidate --older-than 7d

    A model that is defined anew, a tier's changed prompt and a changed system prompt need no command: they separate
    answers by themselves.

    The exit code is 1 where nothing changed: the options are not clear, nothing is known of the tenant or model, or the
    brokers are away. It is 3 where it is not known in time that it holds: the command is queued, and is applied as soon
    as job and Redis are back.
    """
    config = cli_config()
    fields = InvalidationFields(**filters)  # pyright: ignore[reportArgumentType]: the options are its names
    if older_than is not None:
        fields["before_ms"] = round(older_than.replace(tzinfo=dt.UTC).timestamp() * 1000)
    issued_by = f"{os.environ.get('USER', os.getuid())}@{socket.gethostname()}"
    what = _in_words(filters, older_than)
    with Client(config=config) as client:
        if not wait:
            command_id = client.publish_invalidation(issued_by=issued_by, **fields)
            client.flush()
            click.echo(f"the invalidation {command_id} is queued: {what}")
            return
        began = time.monotonic()
        try:
            done = client.invalidate(timeout_s=timeout_s, issued_by=issued_by, **fields)
        except InvalidationPending as error:
            click.secho(f"forebay: {error}", fg="red", err=True)
            sys.exit(_QUEUED)
    if done.outcome is InvalidationOutcome.UNKNOWN:
        raise click.ClickException(_unknown(filters, config))
    _hint(filters["category"], config)
    click.echo(f"invalidated everywhere in {time.monotonic() - began:.2f} s: {what}")


def _in_words(filters: dict[str, str | None], older_than: dt.datetime | None) -> str:
    named: list[Any] = [f"{name.replace('_', ' ')} {value}" for name, value in filters.items() if value is not None]
    if older_than is not None:
        named.append(f"completed before {older_than:%Y-%m-%d %H:%M:%S} UTC")
    return ", ".join(named)


def _unknown(filters: dict[str, str | None], config: Config) -> str:
    if filters["model"] is not None and filters["model"] not in config.models:
        return f"--model: {filters['model']!r} is no model; use one of {', '.join(config.models)}. Nothing changed"
    return (
        f"--tenant: nothing is known of {filters['tenant']!r}, so there is nothing to invalidate. Nothing changed;"
        " check the spelling"
    )


def _hint(category: str | None, config: Config) -> None:
    if category is not None and category not in config.categories:
        known = ", ".join(config.categories) or "none"
        click.secho(
            f"{category!r} has no settings of its own (those that have: {known}); if it is misspelt, nothing was"
            " invalidated",
            fg="yellow",
            err=True,
        )
