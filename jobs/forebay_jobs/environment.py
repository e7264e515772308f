"""Flink's environment for the job: where it runs, and how it survives failures."""

from typing import Any

from forebay_schemas.config import Config
from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.table import StreamTableEnvironment

from .settings import job_settings, submission_settings


def remote_environment(
    config: Config, checkpoint: str | None
) -> tuple[StreamExecutionEnvironment, StreamTableEnvironment]:
    """An environment that submits to the configured cluster.

    Args:
        config: of the job.
        checkpoint: path of a checkpoint or savepoint to start from; None starts with empty state, from the
            committed offsets.
    """
    java: Any = get_gateway().jvm
    # The shipped configuration first: without it no checkpoints ran, and the usual
    # get_execution_environment(configuration) ignores execution.target outside Flink's command line.
    configuration = java.org.apache.flink.configuration.GlobalConfiguration.loadConfiguration()
    for name, value in submission_settings(config, checkpoint).items():
        configuration.setString(name, value)
    environment = StreamExecutionEnvironment(
        java.org.apache.flink.streaming.api.environment.StreamExecutionEnvironment(configuration)
    )
    return environment, StreamTableEnvironment.create(environment)


def application_environment(config: Config) -> tuple[StreamExecutionEnvironment, StreamTableEnvironment]:
    """The environment of the cluster that started this process for its one job: Flink's application mode."""
    settings = Configuration()
    for name, value in job_settings(config).items():
        settings.set_string(name, value)
    environment = StreamExecutionEnvironment.get_execution_environment()
    environment.configure(settings)
    return environment, StreamTableEnvironment.create(environment)
