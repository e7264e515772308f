"""`forebay config`, `topics`, `job` and `worker`: the parts of an installation, one by one."""

import json
import os

import click

from .options import cli_config
from .settings_text import settings_text


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def config(as_json: bool) -> None:
    """Print the configuration that holds here, with the meaning of every setting and secrets masked.

    It is that of the file FOREBAY_CONFIG names, else of the stack that `forebay up` started here, else the defaults.
    Every setting can be given in the environment: FOREBAY_KAFKA__BOOTSTRAP=broker:9092, and so on.

    \b
      forebay config > forebay.toml
      FOREBAY_CONFIG=forebay.toml forebay config --json | jq .tiers
    """
    effective = cli_config()
    if as_json:
        click.echo(json.dumps(effective.model_dump(mode="json"), indent=2))
        return
    click.echo(f"# From {os.environ.get('FOREBAY_CONFIG', 'the defaults')}, and the environment.\n")
    click.echo(settings_text(effective))


@click.command()
def topics() -> None:
    """Create the topics that are missing, and check those that exist. Calling it again changes nothing."""
    from ..topics import create_topics

    report = create_topics(cli_config())
    for name in report.created:
        click.echo(f"created {name}")
    for warning in report.warnings:
        click.secho(warning, fg="yellow", err=True)
    click.echo(f"{len(report.created)} topics created, {len(report.kept)} were there")


@click.group()
def job() -> None:
    """The streaming job on its Flink cluster. Needs the extra `jobs`."""


@job.command("run")
@click.pass_context
def job_run(context: click.Context) -> None:
    """Submit the job, and bring it back from its last checkpoint whenever the cluster has lost it.

    Runs until Ctrl-C or SIGTERM; the job itself goes on. The cluster is the one at flink.rest_address.
    """
    cli_config()
    from forebay_jobs import __main__ as jobs

    context.invoke(jobs.run)


@job.command("submit")
@click.option("--checkpoint", help="Path of a checkpoint or savepoint to start from.")
@click.pass_context
def job_submit(context: click.Context, checkpoint: str | None) -> None:
    """Submit the job once."""
    cli_config()
    from forebay_jobs import __main__ as jobs

    context.invoke(jobs.submit, checkpoint=checkpoint)


@job.command("stop")
@click.option("--timeout", "timeout_s", default=120.0, show_default=True, help="Seconds that it may take.")
@click.pass_context
def job_stop(context: click.Context, timeout_s: float) -> None:
    """Stop the job with a savepoint beside its checkpoints, and print its path.

    Whoever keeps the job (`forebay job run`, also that of `forebay up`) brings it back from there at once; end that
    first where something is to be changed meanwhile. Exit code 1: it was not stopped.
    """
    cli_config()
    from forebay_jobs import __main__ as jobs

    context.invoke(jobs.stop, timeout_s=timeout_s)


@click.group()
def worker() -> None:
    """The tier workers. Needs the extra `workers-gpu` or `workers-cpu`."""


@worker.command("run")
@click.option("--tiers", help="Names with commas between; absent: all tiers whose model has a backend.")
@click.pass_context
def worker_run(context: click.Context, tiers: str | None) -> None:
    """Serve tiers until Ctrl-C or SIGTERM; what is being generated then is finished first.

    \b
      forebay worker run --tiers small,medium
    """
    cli_config()
    from forebay_workers.__main__ import main

    context.invoke(main, tiers=tiers)
