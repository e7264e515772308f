"""Rollouts on a real broker: by the command line, by the controller that is killed in the middle, and in a race."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from forebay_client.errors import BrokerUnavailable
from forebay_jobs.rollout_log import RolloutFollower
from forebay_ops.cli import forebay
from forebay_ops.local.effective import write_settings
from forebay_ops.rollouts.moving import Mover
from forebay_ops.rollouts.observing import Observer
from forebay_ops.topics import create_topics
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.live_rollouts import start
from forebay_schemas.records import Latency
from forebay_schemas.rollouts import Rollout, RolloutError, Stage, promote, roll_back

from tests.broker import Broker
from tests.builders import make_reply
from tests.waiting import eventually

pytestmark = pytest.mark.stack

SETTINGS = """
[models.old]
backend = "synthetic"
price = { input_per_1k = 0, output_per_1k = 0 }
[models.new]
backend = "synthetic"
price = { input_per_1k = 0, output_per_1k = 0 }
[tiers.only]
complexity_up_to = 1.0
model = "old"
max_tokens = 10
"""
LIMITS = {"min-minutes": 0, "min-replies": 30, "errors": 0.3, "complaints": 0.3, "escalations": 0.3, "slower": 100}
QUICK = ["--from", "10", *(word for name, limit in LIMITS.items() for word in ("--guard", f"{name}={limit}"))]
NEW_MODEL = ("--set", "tiers.only.model=new")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"), SETTINGS)
    broker.start()
    yield broker
    broker.kill()


def a_rollout() -> Rollout:
    return Rollout(name="any", version=1, overrides={}, stage=Stage.TEN, started_ms=0, since_ms=0)


class Installation:
    """Topics of one test, replies of a worker that the test plays, and the command line."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self._file = folder / "forebay.toml"
        self._log = folder / "control.log"
        self._producer = Producer(config.kafka.client())
        self._numbers = itertools.count()
        write_settings(config, self._file)
        create_topics(config)
        eventually(self._led, "every partition has a leader")

    def _led(self) -> bool:
        with closing(Mover(self.config)) as mover, closing(Observer(self.config)) as observer:
            try:
                mover.known()
                observer.follow({"any": a_rollout()})
                observer.read_all()
            except BrokerUnavailable:
                return False
        return True

    def run(self, *words: str, code: int = 0) -> str:
        result = CliRunner().invoke(forebay, ["rollout", *words], env={"FOREBAY_CONFIG": str(self._file)})
        said = result.output + (str(result.exception) if result.exception else "")
        assert (result.exit_code == 0) is (code == 0), said
        return said if code else result.stdout

    def known(self) -> dict[str, Rollout]:
        with closing(Mover(self.config)) as mover:
            return mover.known()

    @contextmanager
    def controlled(self) -> Iterator[subprocess.Popen[bytes]]:
        """While a controller runs."""
        program = "from forebay_ops.cli import main; main()"
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", program, "rollout", "control"],
                env=os.environ | {"FOREBAY_CONFIG": str(self._file)},
                stderr=log,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def reply(self, arm: str | None, model: str, ahead_s: float = 0.0) -> None:
        """By a worker whose clock is ahead of the brokers'."""
        reply = make_reply(
            request_id=f"r{next(self._numbers)}",
            completed_ms=round((time.time() + ahead_s) * 1000),
            arm=arm,
            tier="only",
            model_id=model,
            latency=Latency(generation_ms=50.0),
        )
        self._producer.produce(self.config.kafka.topics.replies, Codec().encode(reply))

    def flush(self) -> None:
        """See that the brokers have all replies."""
        assert self._producer.flush(30) == 0

    @contextmanager
    def answering(self, arm: str, model: str) -> Iterator[None]:
        """While replies of both arms come, those of the canary by a model."""
        stop = threading.Event()

        def work() -> None:
            while not stop.wait(0.01):
                self.reply(arm, model)
                self.reply(None, "old")
            self.flush()

        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield
        finally:
            stop.set()
            worker.join()


@pytest.fixture
def installation(broker: Broker, tmp_path: Path) -> Installation:
    kafka = broker.config.kafka.model_copy(update={"topic_prefix": f"llm{uuid.uuid4().hex}"})
    metrics = broker.config.metrics.model_copy(update={"rollouts_port": 0})
    return Installation(broker.config.model_copy(update={"kafka": kafka, "metrics": metrics}), tmp_path)


def test_replies_count_by_their_own_time_though_the_brokers_clocks_are_behind(installation: Installation) -> None:
    ahead_s = 60.0
    rollout = msgspec.structs.replace(a_rollout(), since_ms=round((time.time() + ahead_s) * 1000))
    installation.reply(rollout.arm, "new")  # of before its stage
    installation.reply(rollout.arm, "new", ahead_s + 1)
    installation.flush()
    with closing(Observer(installation.config)) as observer:
        observer.follow({rollout.name: rollout})
        observer.read_all()
        assert observer.counting.of(rollout).canary.replies == 1


def test_by_hand_it_goes_through_its_stages_and_every_follower_learns_of_it(installation: Installation) -> None:
    seen: list[str] = []

    def note(known: dict[str, Rollout]) -> None:
        seen.extend(one.stage for one in known.values())

    follower = RolloutFollower(installation.config.kafka, Codec(), note)
    follower.start(patience_s=30)
    with closing(follower):
        assert "no rollouts" in installation.run("status")
        assert "nothing was written" in installation.run("start", "newer", *NEW_MODEL, "--dry-run")
        assert installation.known() == {}
        assert "in shadow" in installation.run("start", "newer", *NEW_MODEL, "--unit", "user")
        for stage in ("10", "50", "90", "100"):
            assert f"at the stage {stage}" in installation.run("promote", "newer", "--why", f"to {stage}")
        assert "does not have its values yet" in installation.run("finish", "newer", code=1)
        installation.run("rollback", "newer", "--why", "complaints by phone")
        eventually(lambda: seen[-1:] == ["rolled_back"], "the follower knows of the rollback", timeout_s=5)
    assert sorted(set(seen)) == ["10", "100", "50", "90", "rolled_back", "shadow"]
    told = installation.run("history", "newer")
    assert "complaints by phone" in told
    assert "start it anew" in installation.run("promote", "newer", code=1)
    assert "there is no such rollout; known are newer" in installation.run("status", "older", code=1)


def test_the_next_one_lies_over_what_answers_everybody_and_both_are_finished_at_once(
    installation: Installation,
) -> None:
    for name, setting in (("newer", "model=new"), ("longer", "max_tokens=20"), ("older", "model=old")):
        installation.run("start", name, "--set", f"tiers.only.{setting}", "--from", "10")
        for _ in range(3):
            installation.run("promote", name)
    assert "100 %, superseded" in installation.run("status", "newer")
    assert "superseded" not in installation.run("status", "longer")
    assert "newer, which it superseded, is finished too" in installation.run("finish", "older")
    stages = {name: one.stage for name, one in installation.known().items()}
    assert stages == {"newer": Stage.FINISHED, "older": Stage.FINISHED, "longer": Stage.ALL}


def test_a_good_one_reaches_everybody_though_its_controllers_are_killed(installation: Installation) -> None:
    installation.run("start", "newer", *NEW_MODEL, *QUICK)
    arm = installation.known()["newer"].arm

    def stage() -> Stage:
        return installation.known()["newer"].stage

    with installation.answering(arm, "new"):
        for reached in (Stage.FIFTY, Stage.NINETY):
            with installation.controlled() as controller, installation.controlled():  # two of them do no harm
                eventually(lambda reached=reached: stage() is reached, f"the stage {reached}")
                os.kill(controller.pid, signal.SIGKILL)
        with installation.controlled():
            eventually(lambda: stage() is Stage.ALL, "the stage 100")
    whats = [step.what for step in installation.known()["newer"].history if step.what != "restate"]
    assert whats == ["start", "promote", "promote", "promote"]


def test_a_bad_one_ends_itself_and_says_why(installation: Installation) -> None:
    installation.run("start", "newer", *NEW_MODEL, *QUICK)
    arm = installation.known()["newer"].arm
    with installation.answering(arm, "old"):  # the tier's own model has to stand in
        eventually(lambda: "broken" in installation.run("status", "newer"), "a broken guard in its status")
        found = json.loads(installation.run("status", "newer", "--json"))
        assert found["next"][0] == "roll back"
        with installation.controlled() as controller:
            eventually(lambda: installation.known()["newer"].stage is Stage.ROLLED_BACK, "the rollback")
            controller.send_signal(signal.SIGTERM)
            assert controller.wait(20) == 0
    last = installation.known()["newer"].history[-1]
    assert last.who.startswith("controller")
    assert last.why.startswith("errors: 100.0%, above 30.0%")


def test_of_two_who_move_it_at_once_the_first_holds_for_whoever_reads_it_later(installation: Installation) -> None:
    by: dict[str, Any] = {"who": "ada", "why": ""}
    with closing(Mover(installation.config)) as one, closing(Mover(installation.config)) as other:
        begin = partial(start, name="newer", overrides={"tiers.only.model": '"new"'}, config=installation.config, **by)
        one.move(lambda known, now_ms: begin(known, now_ms=now_ms, stage=Stage.TEN))

        def late(known: Any, now_ms: int) -> Rollout:
            promoted = promote(known["newer"], **by, now_ms=now_ms)
            one.move(lambda known, now_ms: roll_back(known["newer"], **by, now_ms=now_ms + 1))
            return promoted

        with pytest.raises(RolloutError, match="moved it to rolled_back at the same moment"):
            other.move(late)
    held = installation.known()["newer"]
    assert [step.what for step in held.history] == ["start", "roll back", "restate"]
