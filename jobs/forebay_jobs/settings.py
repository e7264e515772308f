"""Flink's settings for the job: where it runs, and how it survives failures."""

import sys

from forebay_schemas.config import Config

from .buckets import MAX_PARALLELISM


def job_name(config: Config) -> str:
    """The job's name on the cluster, which installations with topics of their own may share."""
    return f"forebay {config.kafka.topic_prefix}"


def flink_settings(config: Config, checkpoint: str | None) -> dict[str, str]:
    """The settings by Flink's names; ``checkpoint`` is the path to restore from, or None."""
    host, _, port = config.flink.rest_address.rpartition(":")
    settings = {
        "execution.target": "remote",
        "execution.attached": "false",
        "rest.address": host,
        "rest.port": port,
        "parallelism.default": str(config.flink.parallelism),
        "pipeline.max-parallelism": str(MAX_PARALLELISM),
        "python.execution-mode": "thread",
        "python.executable": sys.executable,
        "execution.buffer-timeout.interval": "1 ms",
        "execution.checkpointing.interval": f"{config.flink.checkpoint_interval_ms} ms",
        "execution.checkpointing.dir": config.flink.checkpoint_dir,
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
    if checkpoint is not None:
        settings["execution.state-recovery.path"] = checkpoint
    return settings
