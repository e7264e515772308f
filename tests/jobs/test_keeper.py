"""The keeper: the job is on the cluster once, and comes back from its newest complete checkpoint."""

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from forebay_jobs import keeper as keeper_module
from forebay_jobs import topics_read
from forebay_jobs.keeper import Keeper
from forebay_jobs.settings import job_name
from forebay_schemas.config import load_config
from forebay_schemas.topic_probe import TopicProbe, TopicState

from tests.jobs.doubles import configured
from tests.jobs.flink_rest import FlinkRest
from tests.waiting import eventually

NAME = job_name(load_config())
RUN = [sys.executable, "-c", ""]


class Rig:
    """A keeper that runs against a double of the cluster; a submission only notes its arguments."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rest = FlinkRest()
        self.folder = folder / "llm"
        self.folder.mkdir(parents=True)
        self.stop = threading.Event()
        self.submitted: list[list[str]] = []
        self.command = RUN
        self.topics: dict[str, str] = {}
        """The ids of those that the brokers have."""
        self.kafka = "one"
        """The id of their cluster."""
        self.rewound: list[tuple[str, int]] = []
        self.on_submit: Callable[[], None] = lambda: self.rest.add("new", NAME)
        self._thread: threading.Thread | None = None
        self._monkeypatch = monkeypatch
        self.checkpoint_dir = folder.as_uri()
        monkeypatch.setattr(TopicProbe, "ids", lambda *_: dict(self.topics))
        monkeypatch.setattr(TopicProbe, "cluster", lambda *_: self.kafka)
        monkeypatch.setattr(TopicProbe, "state", lambda _, topic, __: TopicState(self.topics[topic], 2))
        monkeypatch.setattr(topics_read, "_rewind", lambda _, __, places: self.rewound.extend(places))
        monkeypatch.setattr(keeper_module, "LOOK_AT_TOPICS_S", 0.0)
        monkeypatch.setattr(keeper_module, "LOOK_AGAIN_S", 0.0)
        monkeypatch.setattr(keeper_module, "POLL_S", 0.005)
        monkeypatch.setattr(keeper_module, "BACK_OFF_S", 0.001)
        monkeypatch.setattr(keeper_module, "LONGEST_BACK_OFF_S", 0.01)
        self._popen = subprocess.Popen
        monkeypatch.setattr(subprocess, "Popen", self._submit)

    def run(self) -> None:
        settings = {"rest_address": self.rest.address, "checkpoint_dir": self.checkpoint_dir}
        keeper = Keeper(configured(flink=settings), self.stop)
        self._thread = threading.Thread(target=keeper.run)
        self._thread.start()

    def end(self) -> None:
        """End the keeper."""
        self.stop.set()
        if self._thread is not None:
            self._thread.join(10)
            assert not self._thread.is_alive()

    def run_another(self) -> None:
        """Another keeper in the place of the one before."""
        self.end()
        self.stop.clear()
        self.run()

    def close(self) -> None:
        self.end()
        self.rest.close()

    def lose_to_a_new_topic(self) -> None:
        """Have a job that runs cancelled because its request topic is made anew."""
        self.rest.add("mine", NAME)
        self.topics = {"llm.requests": "a"}
        self.run()
        self.rounds()
        self.topics = {"llm.requests": "b"}
        eventually(lambda: self.rest.jobs["mine"]["state"] == "CANCELLING", "the job is cancelled")

    def answers_with(self, ids: Callable[[], dict[str, str]]) -> None:
        """Have the brokers tell of topics so."""
        self._monkeypatch.setattr(TopicProbe, "ids", lambda *_: ids())

    def rounds(self, count: int = 3) -> None:
        """Wait until the keeper has looked a few more times."""
        before = self.rest.asked.count("/jobs/overview")
        eventually(lambda: self.rest.asked.count("/jobs/overview") >= before + count, "the keeper looks")

    def checkpoint(self, name: str, at_s: int, *, complete: bool = True, job: str = "old") -> str:
        folder = self.folder / job / name
        folder.mkdir(parents=True)
        if complete:
            (folder / "_metadata").write_bytes(b"m")
            os.utime(folder / "_metadata", (at_s, at_s))
        return folder.as_uri()

    @property
    def restored_from(self) -> list[str | None]:
        """The checkpoint of each submission."""
        expected = [sys.executable, "-m", "forebay_jobs", "submit"]
        assert all(command[:4] == expected for command in self.submitted)
        return [command[5] if command[4:5] == ["--checkpoint"] else None for command in self.submitted]

    def _submit(self, command: list[str], **kwargs: Any) -> Any:
        self.submitted.append(command)
        self.on_submit()
        return self._popen(self.command, **kwargs)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    rig = Rig(tmp_path / "check points", monkeypatch)
    yield rig
    rig.close()


def test_a_cluster_without_the_job_gets_it_once_with_empty_state(rig: Rig) -> None:
    rig.run()
    eventually(lambda: rig.submitted, "the job is submitted")
    rig.rounds()
    assert rig.restored_from == [None]


def test_a_job_that_runs_is_left_alone(rig: Rig) -> None:
    rig.rest.add("mine", NAME)
    rig.run()
    rig.rounds()
    assert rig.submitted == []


@pytest.mark.parametrize("state", ["INITIALIZING", "CREATED", "RESTARTING", "FAILING", "RECONCILING", "CANCELLING"])
def test_a_job_that_may_run_again_or_still_writes_is_waited_for(rig: Rig, state: str) -> None:
    rig.rest.add("mine", NAME, state)
    rig.run()
    rig.rounds()
    assert rig.submitted == []


@pytest.mark.parametrize("state", ["FAILED", "CANCELED", "FINISHED"])
def test_a_job_that_ended_is_brought_back_from_the_newest_complete_checkpoint(rig: Rig, state: str) -> None:
    rig.checkpoint("chk-9", 100, job="older")
    newest = rig.checkpoint("chk-3", 300)
    rig.checkpoint("chk-2", 200)
    rig.checkpoint("chk-4", 400, complete=False)
    (rig.folder / "old" / "shared").mkdir()
    rig.rest.add("mine", NAME, state)
    rig.run()
    eventually(lambda: rig.submitted, "the job is submitted")
    assert rig.restored_from == [newest]


def test_a_job_that_was_stopped_is_brought_back_from_its_savepoint(rig: Rig) -> None:
    rig.checkpoint("chk-3", 300)
    savepoint = rig.folder / "savepoint-4711-08"
    savepoint.mkdir()
    (savepoint / "_metadata").write_bytes(b"m")
    os.utime(savepoint / "_metadata", (400, 400))
    rig.rest.add("mine", NAME, "FINISHED")
    rig.run()
    eventually(lambda: rig.submitted, "the job is submitted")
    assert rig.restored_from == [savepoint.as_uri()]


def test_jobs_of_others_do_not_count(rig: Rig) -> None:
    rig.rest.add("theirs", "another job")
    rig.rest.add("also theirs", f"{NAME} too")
    rig.run()
    eventually(lambda: rig.submitted, "the job is submitted")
    assert {job["state"] for job in rig.rest.jobs.values()} == {"RUNNING"}


def test_of_two_jobs_the_younger_is_cancelled(rig: Rig) -> None:
    rig.rest.add("younger", NAME, start_time=20)
    rig.rest.add("older", NAME, start_time=10)
    rig.run()
    eventually(lambda: rig.rest.jobs["younger"]["state"] == "CANCELLING", "the younger is cancelled")
    rig.rounds()
    assert rig.rest.jobs["older"]["state"] == "RUNNING"
    assert rig.rest.asked.count("PATCH /jobs/younger") == 1
    assert rig.submitted == []


def test_a_job_is_not_cancelled_for_an_older_one_that_is_going_already(rig: Rig) -> None:
    rig.rest.add("older", NAME, "CANCELLING", start_time=10)
    rig.rest.add("younger", NAME, start_time=20)
    rig.run()
    rig.rounds()
    assert rig.rest.jobs["younger"]["state"] == "RUNNING"


def test_nothing_is_submitted_before_there_are_slots(rig: Rig) -> None:
    rig.rest.slots = 0
    rig.run()
    rig.rounds()
    assert rig.submitted == []
    rig.rest.slots = 1
    eventually(lambda: rig.submitted, "the job is submitted")


@pytest.mark.parametrize(
    "answer",
    [
        (503, b'{"errors": ["starting"]}'),
        (200, b"<html>"),
        (200, b'{"jobs": [...'),
        (200, b""),
        (200, b"{}"),
        (404, b""),
    ],
    ids=["unavailable", "a page", "cut off", "empty", "no jobs", "not found"],
)
def test_a_jobmanager_that_goes_down_or_comes_up_is_waited_for(rig: Rig, answer: tuple[int, bytes]) -> None:
    rig.rest.answer = answer
    rig.run()
    rig.rounds()
    assert rig.submitted == []
    rig.rest.answer = None
    eventually(lambda: rig.submitted, "the job is submitted")


def test_a_jobmanager_that_is_away_is_waited_for(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    address = rig.rest.address
    rig.rest.close()
    rig.run()
    eventually(lambda: caplog.records, "it says so")
    rig.stop.set()
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        f"waiting for the JobManager at {address}"
    ]
    rig.rest = FlinkRest()


def test_a_submission_that_fails_is_tried_again(rig: Rig) -> None:
    rig.command = [sys.executable, "-c", "raise SystemExit(3)"]
    rig.on_submit = lambda: None
    rig.run()
    eventually(lambda: len(rig.submitted) >= 2, "the job is submitted again")


def test_a_checkpoint_that_cannot_be_restored_gives_way_to_an_older_one(rig: Rig) -> None:
    older = rig.checkpoint("chk-1", 100)
    newest = rig.checkpoint("chk-2", 200)
    rig.on_submit = lambda: None  # the cluster refuses, or the job fails at once
    rig.run()
    eventually(lambda: len(rig.submitted) >= 9, "both are tried, and tried again")
    rig.stop.set()
    assert rig.restored_from[:6] == [newest] * 3 + [older] * 3
    assert None not in rig.restored_from, "it would forget who waits"


def test_a_job_that_completes_a_checkpoint_makes_its_origin_good_again(rig: Rig) -> None:
    newest = rig.checkpoint("chk-2", 200)
    rig.checkpoint("chk-1", 100)
    rig.on_submit = lambda: None
    rig.run()
    eventually(lambda: len(rig.submitted) == 2, "two submissions fail")
    rig.rest.checkpoints["new"] = newest
    rig.rest.add("new", NAME)
    rig.rounds()
    del rig.rest.jobs["new"]
    before = len(rig.submitted)
    eventually(lambda: len(rig.submitted) >= before + 3, "it is submitted again")
    rig.stop.set()
    assert rig.restored_from[before : before + 3] == [newest] * 3


def test_what_earlier_submissions_left_is_removed_once_the_job_has_a_checkpoint_of_its_own(rig: Rig) -> None:
    for number, job in enumerate(("first", "second", "third")):
        rig.checkpoint("chk-1", number, job=job)
        os.utime(rig.folder / job, (number, number))
    (rig.folder / "savepoint-1").mkdir()  # an operator's
    own = rig.checkpoint("chk-7", 9, job="mine")
    rig.rest.add("mine", NAME)
    rig.run()
    rig.rounds()
    assert (rig.folder / "first").exists()
    rig.rest.checkpoints["mine"] = own
    left = {"savepoint-1", "third", "mine", "topics.json"}
    eventually(lambda: {path.name for path in rig.folder.iterdir()} == left, "old checkpoints are removed")
    rig.rounds()
    assert {path.name for path in rig.folder.iterdir()} == left


def test_the_cluster_is_asked_for_checkpoints_that_cannot_be_listed(rig: Rig) -> None:
    rig.checkpoint_dir = "s3://bucket/checkpoints"
    rig.rest.add("mine", NAME)
    rig.rest.checkpoints["mine"] = "s3://bucket/checkpoints/mine/chk-8"
    rig.run()
    rig.rounds()
    rig.rest.checkpoints["mine"] = "s3://bucket/checkpoints/mine/chk-9"
    rig.rounds()
    del rig.rest.jobs["mine"]  # the JobManager died and forgot it
    eventually(lambda: rig.submitted, "the job is submitted")
    assert rig.restored_from == ["s3://bucket/checkpoints/mine/chk-9"]


def test_a_job_whose_topic_was_made_anew_reads_it_from_the_beginning_and_keeps_its_state(rig: Rig) -> None:
    checkpoint = rig.checkpoint("chk-2", 200, job="mine")
    rig.rest.add("mine", NAME)
    rig.topics = {"llm.requests": "a", "llm.results": "b"}
    rig.run()
    rig.rounds()
    rig.topics = {"llm.results": "b"}  # the other one is deleted, or a broker does not answer
    rig.rounds()
    assert rig.rest.jobs["mine"]["state"] == "RUNNING"
    rig.topics = {"llm.requests": "c", "llm.results": "b"}
    eventually(lambda: rig.rest.jobs["mine"]["state"] == "CANCELLING", "the job is cancelled")
    rig.rounds()
    assert (rig.submitted, rig.rewound) == ([], []), "it still writes"
    del rig.rest.jobs["mine"]
    eventually(lambda: rig.submitted, "the job is submitted")
    both = [("llm.requests", 0), ("llm.requests", 1)]
    assert rig.rewound == both
    rig.rounds()
    assert rig.rest.jobs["new"]["state"] == "RUNNING"
    del rig.rest.jobs["new"]
    eventually(lambda: len(rig.submitted) == 2, "it is submitted again before it had a checkpoint")
    assert rig.rewound == both * 2, "nothing knows how far it had read"
    rig.rest.checkpoints["new"] = own = rig.checkpoint("chk-3", 300, job="new")
    rig.rounds()
    del rig.rest.jobs["new"]
    eventually(lambda: len(rig.submitted) == 3, "it is submitted again")
    rig.end()
    assert rig.restored_from == [checkpoint, checkpoint, own]
    assert [command[6:] for command in rig.submitted] == [["--anew", "llm.requests", "c"]] * 3
    assert rig.rewound == both * 2, "its checkpoint knows"


def test_an_older_checkpoint_does_not_know_how_far_a_newer_topic_was_read(rig: Rig) -> None:
    older = rig.checkpoint("chk-2", 200, job="mine")
    rig.lose_to_a_new_topic()
    del rig.rest.jobs["mine"]
    eventually(lambda: "new" in rig.rest.jobs, "the job is submitted")
    rig.rest.checkpoints["new"] = own = rig.checkpoint("chk-3", 300, job="new")
    rig.rounds()
    rig.rewound.clear()
    rig.on_submit = lambda: None  # its own checkpoint cannot be restored
    before = len(rig.submitted)
    del rig.rest.jobs["new"]
    eventually(lambda: len(rig.submitted) >= before + 4, "the older one is tried")
    rig.end()
    assert rig.restored_from[before : before + 4] == [own] * 3 + [older]
    assert rig.rewound[:2] == [("llm.requests", 0), ("llm.requests", 1)]


@pytest.mark.parametrize("savepoint", [False, True])
def test_another_keeper_knows_what_was_made_anew(rig: Rig, savepoint: bool) -> None:
    rig.checkpoint("chk-2", 200, job="mine")
    rig.lose_to_a_new_topic()
    rig.run_another()
    assert rig.submitted == []
    rig.on_submit = lambda: rig.rest.add("0123456789", NAME)
    del rig.rest.jobs["mine"]
    eventually(lambda: rig.submitted, "the job is submitted")
    rig.run_another()
    rig.rounds()
    assert rig.rest.jobs["0123456789"]["state"] == "RUNNING"
    if savepoint:
        rig.checkpoint("", 400, job="savepoint-012345-abcdef")
    else:
        rig.checkpoint("chk-5", 400, job="0123456789")
    rig.rewound.clear()
    rig.run_another()
    del rig.rest.jobs["0123456789"]
    eventually(lambda: len(rig.submitted) == 2, "it is submitted again")
    assert [command[6:] for command in rig.submitted] == [["--anew", "llm.requests", "b"]] * 2
    assert rig.rewound == [], "its checkpoint knows"


def test_a_topic_that_was_made_anew_while_no_keeper_ran_is_read_from_the_beginning(rig: Rig) -> None:
    rig.rest.add("mine", NAME)
    rig.topics = {"llm.requests": "a"}
    rig.run()
    rig.rounds()
    rig.end()
    rig.topics = {"llm.requests": "b"}
    rig.run_another()
    eventually(lambda: rig.rest.jobs["mine"]["state"] == "CANCELLING", "the job is cancelled")


def test_another_cluster_has_other_topics_and_the_same_records(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.rest.add("mine", NAME)
    rig.topics = {"llm.requests": "a"}
    rig.run()
    rig.rounds()
    rig.kafka, rig.topics = "a mirror", {"llm.requests": "b"}
    rig.rounds(6)
    assert rig.rest.jobs["mine"]["state"] == "RUNNING"
    assert [record.message for record in caplog.records] == [
        "the brokers are another cluster's: its topics are read from where the group is there"
    ]
    rig.topics = {"llm.requests": "c"}
    eventually(lambda: rig.rest.jobs["mine"]["state"] == "CANCELLING", "the job is cancelled")


def test_a_file_of_topics_that_cannot_be_read_or_written_ends_no_job(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    (rig.folder / "topics.json").mkdir()
    rig.rest.add("mine", NAME)
    rig.topics = {"llm.requests": "a"}
    rig.run()
    rig.rounds()
    assert rig.rest.jobs["mine"]["state"] == "RUNNING"
    assert any("cannot be read" in record.message for record in caplog.records)
    assert any("cannot be written" in record.message for record in caplog.records)


def test_brokers_that_tell_nothing_for_long_are_spoken_of_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.rest.add("mine", NAME)
    rig.run()
    rig.rounds(40)
    assert [record.message for record in caplog.records] == [
        "the brokers tell nothing of the topics; meanwhile one that is made anew goes unnoticed"
    ]


def test_a_cancellation_that_nobody_hears_is_tried_again(rig: Rig) -> None:
    rig.rest.add("mine", NAME)
    rig.topics = {"llm.requests": "a"}
    rig.run()
    rig.rounds()
    rig.rest.deaf = True
    rig.topics = {"llm.requests": "b"}
    eventually(lambda: rig.rest.asked.count("PATCH /jobs/mine") > 1, "the job is to be cancelled")
    rig.rest.deaf = False
    eventually(lambda: rig.rest.jobs["mine"]["state"] == "CANCELLING", "the job is cancelled")


def test_a_submission_that_fails_does_not_forget_what_was_made_anew(rig: Rig) -> None:
    rig.command = [sys.executable, "-c", "raise SystemExit(3)"]
    rig.on_submit = lambda: None
    rig.lose_to_a_new_topic()
    del rig.rest.jobs["mine"]
    eventually(lambda: len(rig.submitted) >= 2, "the job is submitted again")
    assert rig.submitted[1][4:] == ["--anew", "llm.requests", "b"]


@pytest.mark.parametrize(("told", "cancelled"), [("aba", 0), ("aabbaabb", 1)], ids=["now and then", "for long"])
def test_a_broker_that_still_tells_of_the_old_topic_ends_no_job(rig: Rig, told: str, cancelled: int) -> None:
    rig.rest.add("mine", NAME)
    ids = itertools.cycle(told)
    rig.answers_with(lambda: {"llm.requests": next(ids)})
    rig.run()
    for _ in range(cancelled):
        eventually(lambda: rig.rest.jobs["mine"]["state"] == "CANCELLING", "the job is cancelled")
        rig.topics = {"llm.requests": "b"}
        del rig.rest.jobs["mine"]
        eventually(lambda: "new" in rig.rest.jobs, "it is submitted again")
    rig.rounds(24)
    assert [job["state"] for job in rig.rest.jobs.values()] == ["RUNNING"]
    assert len([asked for asked in rig.rest.asked if asked.startswith("PATCH")]) == cancelled


def test_a_job_that_came_although_its_submission_failed_is_kept(rig: Rig) -> None:
    rig.command = [sys.executable, "-c", "raise SystemExit(3)"]
    rig.lose_to_a_new_topic()
    del rig.rest.jobs["mine"]
    eventually(lambda: "new" in rig.rest.jobs, "the job is submitted")
    rig.rounds()
    assert rig.rest.jobs["new"]["state"] == "RUNNING"


def test_nothing_is_submitted_before_the_brokers_know_where_to_begin(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    away = True

    def rewind(_: object, __: object, places: list[tuple[str, int]]) -> None:
        if away:
            raise KafkaException("timed out")
        rig.rewound.extend(places)

    monkeypatch.setattr(topics_read, "_rewind", rewind)
    rig.lose_to_a_new_topic()
    del rig.rest.jobs["mine"]
    rig.rounds()
    assert rig.submitted == []
    away = False
    eventually(lambda: rig.submitted, "the job is submitted")
    assert rig.rewound == [("llm.requests", 0), ("llm.requests", 1)]


def test_without_brokers_to_ask_the_job_is_kept_all_the_same(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> dict[str, str]:
        raise KafkaException("No such configuration property")

    rig.answers_with(refuse)
    rig.run()
    eventually(lambda: rig.submitted, "the job is submitted")
    rig.rounds()
    assert {record.message.partition(" (")[0] for record in caplog.records if record.levelname == "ERROR"} == {
        "the brokers cannot be asked which topics there are"
    }
    rig.topics = {"llm.requests": "a"}
    rig.answers_with(lambda: rig.topics)  # a certificate that was being replaced
    rig.rounds()
    rig.topics = {"llm.requests": "b"}
    eventually(lambda: rig.rest.jobs["new"]["state"] == "CANCELLING", "the job is cancelled")


def test_a_signal_ends_a_submission_that_hangs(rig: Rig) -> None:
    rig.command = [sys.executable, "-c", "import time; time.sleep(600)"]
    rig.run()
    eventually(lambda: rig.submitted, "the submission runs")
    rig.end()  # within seconds, or it fails
