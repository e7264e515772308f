"""Stopping the job: with a savepoint, whose path is told, or with the reason why it runs on."""

from collections.abc import Iterator

import pytest
from forebay_jobs.settings import job_name
from forebay_jobs.stopping import NotStopped, stop
from forebay_schemas.config import Config, load_config

from tests.jobs.doubles import configured
from tests.jobs.flink_rest import FlinkRest

NAME = job_name(load_config())


@pytest.fixture
def rest() -> Iterator[FlinkRest]:
    rest = FlinkRest()
    yield rest
    rest.close()


def at(rest: FlinkRest) -> Config:
    return configured(flink={"rest_address": rest.address, "checkpoint_dir": "file:///checkpoints"})


def test_the_job_is_stopped_with_a_savepoint_beside_its_checkpoints(rest: FlinkRest) -> None:
    rest.add("theirs", "another job")
    rest.add("old", NAME, "FINISHED")
    rest.add("mine", NAME)
    rest.savepoint = {"location": "file:/checkpoints/savepoint-1"}
    assert stop(at(rest), 10) == "file:/checkpoints/savepoint-1"
    assert "POST /jobs/mine/stop" in rest.asked
    assert rest.stopped == [{"targetDirectory": "file:///checkpoints/llm", "drain": False}]


def test_where_no_job_runs_none_is_stopped(rest: FlinkRest) -> None:
    rest.add("mine", NAME, "RESTARTING")
    with pytest.raises(NotStopped, match="no job runs"):
        stop(at(rest), 10)
    assert rest.stopped == []


def test_a_savepoint_that_fails_is_told_with_its_cause(rest: FlinkRest) -> None:
    rest.add("mine", NAME)
    rest.savepoint = {"failure-cause": {"class": "CheckpointException"}}
    with pytest.raises(NotStopped, match="CheckpointException"):
        stop(at(rest), 10)


def test_one_that_takes_too_long_is_not_waited_for(rest: FlinkRest) -> None:
    rest.add("mine", NAME)
    with pytest.raises(NotStopped, match=r"longer than 0\.01 s"):
        stop(at(rest), 0.01)


def test_a_jobmanager_that_is_away_is_told(rest: FlinkRest) -> None:
    rest.answer = (503, b"")
    with pytest.raises(NotStopped, match="does not answer"):
        stop(at(rest), 10)
