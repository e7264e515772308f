"""`forebay forget`: caches, index, ledger and gateway keep nothing of a tenant, or as little as can be of a user."""

import os
import socket
import sys

import click
from rich.console import Console
from rich.table import Table

from ..forgetting import Kept, forget, kept, undivided
from ..ledger.forgetting import NotForgotten, Whom
from .options import cli_config
from .progress import ConsoleProgress
from .tables import figures_table

_LEFT = 3
"""The exit code where something is left, or it is not known that nothing is."""


@click.command("forget")
@click.option("--tenant", required=True, help="Whose entries go.")
@click.option("--user", help="Only those of this user of the tenant.")
@click.option("--dry-run", is_flag=True, help="Count what Redis, gateway and ledger keep, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask whether to go on.")
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds to wait for job and ledger.")
def forget_(tenant: str, user: str | None, dry_run: bool, yes: bool, timeout_s: float) -> None:
    """Remove what is kept of a tenant, or of one of its users: caches, gateway, ledger, and what was learned.

    It cannot be undone. Send nothing more for them before: what is in flight is still answered, and kept. Then it is
    counted again what is left, which is 0 everywhere where it succeeded.

    \b
      forebay forget --tenant acme --user ada --dry-run
      forebay forget --tenant acme --user ada
      forebay forget --tenant acme --yes

    Files and batches at the gateway go with their tenant alone: nobody can tell which user's rows they hold. Kafka's
    topics keep requests, replies and feedback until their retention is over (docs/security.md).

    The exit code is 3 where something is left, or of a user may be in the tenant's files, or where job or ledger have
    not done their part in time.
    """
    config, whom = cli_config(), Whom(tenant=tenant, user=user)
    console = Console(highlight=False)
    with ConsoleProgress(Console(stderr=True)) as progress:
        found = kept(config, whom, progress.counting)
        staying = undivided(config, whom, progress.counting)
    if not config.ledger.folder.is_dir():
        note = f"there is no ledger at {config.ledger.folder} (ledger.folder); where it lies elsewhere, run this there"
        click.secho(note, fg="yellow", err=True)
    if staying:
        note = (
            f"{staying:,} files and batches of the tenant {tenant} stay at the gateway: nobody can tell whose rows they"
            f" hold; delete there the files with rows of {user}, or forget the tenant"
        )
        click.secho(note, fg="yellow", err=True)
    if dry_run:
        console.print(_table(found, done=False))
        return
    if not yes:
        console.print(_table(found, done=False))
        click.confirm(f"Forget {_in_words(whom)}?", abort=True)
    issued_by = f"{os.environ.get('USER', os.getuid())}@{socket.gethostname()}"
    try:
        with ConsoleProgress(Console(stderr=True)) as progress:
            done = forget(config, whom, issued_by=issued_by, timeout_s=timeout_s, say=progress.counting)
    except NotForgotten as error:
        click.secho(f"forebay: {error}", fg="red", err=True)
        sys.exit(_LEFT)
    console.print(_table(done, done=True))
    left = sum(one.left for one in done)
    if left:
        click.secho(
            f"forebay: {left} are left; if nothing is sent any more, give the command again", fg="red", err=True
        )
        sys.exit(_LEFT)
    places = "caches, index and ledger" if staying else "caches, index, ledger and gateway"
    click.echo(f"{places} keep nothing of {_in_words(whom)}; docs/security.md says what stays elsewhere, and how long")
    if staying:
        sys.exit(_LEFT)


def _table(places: list[Kept], *, done: bool) -> Table:
    shown = figures_table("kept in", *(("found", "left") if done else ("now",)))
    for one in places:
        shown.add_row(one.place, *(f"{count:,}" for count in ((one.found, one.left) if done else (one.found,))))
    return shown


def _in_words(whom: Whom) -> str:
    return f"the tenant {whom.tenant}" if whom.user is None else f"the user {whom.user} of the tenant {whom.tenant}"
