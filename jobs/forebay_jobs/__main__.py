"""`python -m forebay_jobs`: submit the job, keep it submitted, or be the program of a cluster that runs it alone."""

import logging
import signal
import sys
import threading

import click
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ForebayError
from forebay_schemas.logs import write_logs
from forebay_schemas.tracing import tracing_for

from .keeper import Keeper
from .stopping import stop as stop_job


@click.group()
def main() -> None:
    """The streaming job on its Flink cluster."""


@main.command()
def run() -> None:
    """Submit the job, and bring it back from its last checkpoint whenever the cluster has lost it."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    Keeper(_config(), told).run()


@main.command()
@click.option("--checkpoint", help="Path of a checkpoint or savepoint to start from.")
@click.option(
    "--anew", type=(str, str), multiple=True, help="Name and id of a topic that was made anew since; once for each."
)
def submit(checkpoint: str | None, anew: tuple[tuple[str, str], ...]) -> None:
    """Submit the job once."""
    from .submit import submit as submit_job

    logging.info("job %s is submitted", submit_job(_config(), checkpoint, dict(anew)))


@main.command()
@click.option("--timeout", "timeout_s", default=120.0, show_default=True, help="Seconds that it may take.")
def stop(timeout_s: float) -> None:
    """Stop the job with a savepoint beside its checkpoints, and print its path."""
    click.echo(stop_job(_config(), timeout_s))


@main.command()
def application() -> None:
    """Build the job for the cluster that started this process: the program of Flink's application mode.

    The Flink Kubernetes Operator keeps such a cluster, so that neither `run` nor `submit` is needed beside it.
    """
    from .submit import run_in_application

    run_in_application(_config())


def _config() -> Config:
    """The configuration; where a package for it is missing, that is said here, before every TaskManager says it."""
    config = load_config()
    write_logs(config.logs)
    tracing_for(config, "job")
    return config


if __name__ == "__main__":
    try:
        main()
    except ForebayError as error:
        sys.exit(f"forebay: {error}")
