"""Submitting the job to a cluster once: to the configured one, or to the one that asks for it."""

from collections.abc import Mapping

from forebay_schemas.config import Config

from .environment import application_environment, remote_environment
from .pipeline import build
from .settings import job_name


def submit(config: Config, checkpoint: str | None, anew: Mapping[str, str]) -> str:
    """Submit the job and return its id; it runs on without this process.

    Args:
        config: of the job; it travels with it.
        checkpoint: path to restore from, or None.
        anew: ids of topics that were made anew; what the checkpoint knows of their offsets is left alone.
    """
    environment, tables = remote_environment(config, checkpoint)
    build(tables, config, anew)
    return str(environment.execute_async(job_name(config)).get_job_id())


def run_in_application(config: Config) -> None:
    """Give the job to the cluster that started this process for it, and knows itself what to restore from."""
    environment, tables = application_environment(config)
    build(tables, config, {})
    environment.execute_async(job_name(config))
