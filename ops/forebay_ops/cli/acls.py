"""`forebay acls`: what each role may do on the brokers."""

from collections.abc import Callable
from typing import Any

import click

from .. import acls as rights_of
from ..acls import Right
from .options import cli_config

_HEAD = "# What {user} may do, as the role {role}.\n"


def _options(role: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        user = click.option("--user", default=f"forebay-{role}", show_default=True, help="Its name at the brokers.")
        made = click.option("--apply", is_flag=True, help="Make the ACLs, as kafka.user, which must be a super user.")
        return user(made(command))

    return add


@click.group(invoke_without_command=True)
@click.pass_context
def acls(context: click.Context) -> None:
    """Print what each role needs of Kafka's ACLs as commands of kafka-acls.sh, or make the ACLs.

    Without a ROLE all are printed. Brokers must have an authorizer, and each part a user of its own (kafka.user). What
    a user was given before stays; kafka-acls.sh --remove takes it away.

    \b
      forebay acls > acls.sh
      forebay acls job --apply
      forebay acls worker --user small-workers --tiers small --apply
      forebay acls service --user acme --requests acme.requests --replies acme.replies
    """
    if context.invoked_subcommand is None:
        for role in (service, job, worker, ledger, operator):
            context.invoke(role)


@acls.command()
@_options("service")
@click.option("--requests", multiple=True, help="A topic that it may ask on; absent: both standard ones.")
@click.option("--replies", multiple=True, help="A topic that it may read; absent: the standard one, of all tenants.")
@click.option("--group", multiple=True, help="How the names of its consumer groups begin.")
@click.option("--stream", is_flag=True, help="It may read the pieces of answers: those of all tenants.")
@click.option("--commands", is_flag=True, help="It may take requests back and invalidate: those of all tenants.")
@click.option("--batches", is_flag=True, help="It may submit batches, and see how far those of all tenants are.")
def service(
    user: str,
    apply: bool,
    requests: tuple[str, ...] = (),
    replies: tuple[str, ...] = (),
    group: tuple[str, ...] = (),
    stream: bool = False,
    commands: bool = False,
    batches: bool = False,
) -> None:
    """Whoever asks: writes request topics and feedback, and reads its reply topic."""
    rights = rights_of.service_rights(
        cli_config(),
        requests=requests,
        replies=replies,
        groups=group,
        stream=stream,
        commands=commands,
        batches=batches,
    )
    _give("service", user, rights, apply)


@acls.command()
@_options("job")
def job(user: str, apply: bool) -> None:
    """The job: reads requests, results, commands and feedback; writes tasks, replies and events."""
    _give("job", user, rights_of.job_rights(cli_config()), apply)


@acls.command()
@_options("worker")
@click.option("--tiers", help="Names with commas between; absent: all.")
def worker(user: str, apply: bool, tiers: str | None = None) -> None:
    """A worker: reads its tiers and commands; writes replies, results, and tasks for other tiers."""
    _give("worker", user, rights_of.worker_rights(cli_config(), tiers.split(",") if tiers else ()), apply)


@acls.command()
@_options("ledger")
def ledger(user: str, apply: bool) -> None:
    """The ledger: reads replies and feedback."""
    _give("ledger", user, rights_of.ledger_rights(cli_config()), apply)


@acls.command()
@_options("operator")
def operator(user: str, apply: bool) -> None:
    """Commands and the controller of rollouts: makes and reads topics; writes requests and commands, never tasks."""
    _give("operator", user, rights_of.operator_rights(cli_config()), apply)


def _give(role: str, user: str, rights: list[Right], apply: bool) -> None:
    config = cli_config()
    if apply:
        count = rights_of.apply(config, user, rights)
        click.echo(f"{user} has the {count} ACLs of a {role}")
        return
    click.echo(_HEAD.format(user=user, role=role), nl=False)
    for line in rights_of.kafka_acls(user, rights, config.kafka.bootstrap):
        click.echo(line)
