"""What Flink is told about the job."""

import sys

from forebay_jobs.settings import submission_settings

from tests.jobs.doubles import configured

CONFIG = configured(
    flink={
        "rest_address": "jobmanager:18081",
        "parallelism": 4,
        "checkpoint_dir": "s3://bucket/checkpoints",
        "checkpoint_interval_ms": 500,
    }
)


def test_the_configuration_reaches_flink() -> None:
    settings = submission_settings(CONFIG, None)
    assert (settings["rest.address"], settings["rest.port"]) == ("jobmanager", "18081")
    assert settings["parallelism.default"] == "4"
    assert settings["execution.checkpointing.dir"] == "s3://bucket/checkpoints/llm"
    assert settings["execution.checkpointing.interval"] == "500 ms"
    assert settings["python.executable"] == sys.executable


def test_state_survives_failures_and_changes_of_the_graph() -> None:
    settings = submission_settings(CONFIG, None)
    assert settings["execution.checkpointing.externalized-checkpoint-retention"] == "RETAIN_ON_CANCELLATION"
    assert settings["table.exec.uid.generation"] == "ALWAYS"
    assert settings["pipeline.max-parallelism"] == "128"
    assert settings["python.execution-mode"] == "thread"


def test_a_checkpoint_is_restored_only_where_one_is_named() -> None:
    assert "execution.state-recovery.path" not in submission_settings(CONFIG, None)
    assert submission_settings(CONFIG, "file:///c/chk-7")["execution.state-recovery.path"] == "file:///c/chk-7"


def test_every_setting_is_text() -> None:
    assert all(isinstance(value, str) for value in submission_settings(CONFIG, "file:///c/chk-7").values())
