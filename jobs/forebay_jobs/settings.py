"""Flink's settings for the job: where it runs, and how it survives failures."""

import sys

from forebay_schemas.config import Config

from .buckets import MAX_PARALLELISM


def job_name(config: Config) -> str:
    """The job's name on the cluster, which installations with topics of their own may share."""
    return f"forebay {config.kafka.topic_prefix}"


def checkpoint_folder(config: Config) -> str:
    """The URI of the folder with the job's checkpoints and savepoints: another installation that keeps its own in the
    same place must not be set back to them, nor remove them."""
    return f"{config.flink.checkpoint_dir.rstrip('/')}/{config.kafka.topic_prefix}"


def job_settings(config: Config) -> dict[str, str]:
    """What the job needs on every cluster, by Flink's names; where checkpoints are kept and how parallel it runs is the
    cluster's or the submission's to say."""
    return {
        "pipeline.max-parallelism": str(MAX_PARALLELISM),
        "python.execution-mode": "thread",
        "python.executable": sys.executable,
        "execution.buffer-timeout.interval": "1 ms",
        "execution.checkpointing.interval": f"{config.flink.checkpoint_interval_ms} ms",
        # A lost JobManager forgets its jobs; the keeper resubmits from what was retained.
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.num-retained": "3",  # one that cannot be restored is not the end
        "execution.checkpointing.tolerable-failed-checkpoints": "10",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": str(2**31 - 1),
        "restart-strategy.fixed-delay.delay": "1 s",
        # Uids for the tables' operators too: a restore finds its state after the graph has changed.
        "table.exec.uid.generation": "ALWAYS",
        "execution.state-recovery.ignore-unclaimed-state": "true",
    }


def submission_settings(config: Config, checkpoint: str | None) -> dict[str, str]:
    """The same with where a client submits it to; ``checkpoint`` is the path to restore from, or None."""
    host, _, port = config.flink.rest_address.rpartition(":")
    settings = job_settings(config) | {
        "execution.target": "remote",
        "execution.attached": "false",
        "rest.address": host,
        "rest.port": port,
        "parallelism.default": str(config.flink.parallelism),
        "execution.checkpointing.dir": checkpoint_folder(config),
    }
    if checkpoint is not None:
        settings["execution.state-recovery.path"] = checkpoint
    return settings
