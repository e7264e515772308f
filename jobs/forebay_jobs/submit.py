"""Submitting the job to the cluster once."""

from forebay_schemas.config import Config

from .environment import remote_environment
from .pipeline import build
from .settings import job_name


def submit(config: Config, checkpoint: str | None) -> str:
    """Submit the job and return its id; it runs on without this process.

    Args:
        config: of the job; it travels with it.
        checkpoint: path to restore from, or None.
    """
    environment, tables = remote_environment(config, checkpoint)
    build(environment, tables, config)
    return str(environment.execute_async(job_name(config)).get_job_id())
