"""The controller knows what it does not know yet, and mends what others left behind."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest
from forebay_jobs.rollout_log import RolloutFollower
from forebay_ops.rollouts.control import control
from forebay_ops.rollouts.moving import Mover
from forebay_ops.rollouts.observing import Observer
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config, load_config
from forebay_schemas.live_rollouts import start
from forebay_schemas.metrics import RolloutMetrics
from forebay_schemas.records import Control
from forebay_schemas.rollouts import Guards, Rollout, RolloutError, Stage, of_control, promote, roll_back, to_control
from prometheus_client import CollectorRegistry

from tests.builders import NOW_MS, make_reply, make_rollout
from tests.waiting import eventually

from .kafka_in_memory import Kafka

LIMITS = Guards(min_minutes=0, min_replies=100)


def rollout(name: str = "terse", **fields: Any) -> Rollout:
    return make_rollout(name=name, guards=LIMITS, **fields)


@pytest.fixture
def config() -> Config:
    config = load_config()
    return config.model_copy(update={"metrics": config.metrics.model_copy(update={"rollouts_port": 0})})


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    return Kafka(monkeypatch)


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """What the controller tells; a process has one."""
    registry = CollectorRegistry()
    monkeypatch.setattr("forebay_ops.rollouts.control.RolloutMetrics", partial(RolloutMetrics, registry))
    return registry


def test_evidence_is_whole_when_all_is_read_that_was_there(kafka: Kafka, config: Config) -> None:
    replies = config.kafka.topics.replies
    kafka.at_once = 2
    kafka.write(replies, *(Codec().encode(make_reply(request_id=f"r{number}")) for number in range(3)))
    observer = Observer(config)
    observer.follow({"terse": rollout()})
    kafka.write(replies, Codec().encode(make_reply(request_id="later")))
    whole = [observer.caught_up]
    for _ in range(2):
        observer.read(0)
        whole.append(observer.caught_up)
    assert whole == [False, False, True]


def followed(config: Config, on_change: Callable[[dict[str, Rollout]], None]) -> RolloutFollower:
    follower = RolloutFollower(config.kafka, Codec(), on_change)
    follower.start(patience_s=0)
    return follower


def test_a_follower_goes_on_after_a_defect(kafka: Kafka, config: Config) -> None:
    kafka.write(config.kafka.topics.control, Codec().encode(to_control(rollout())))
    seen: list[Stage] = []

    def note(known: dict[str, Rollout]) -> None:
        seen.extend(one.stage for one in known.values())
        if len(seen) == 1:
            raise RecursionError

    with closing(followed(config, note)):
        eventually(lambda: len(seen) > 1, "it is told once more", timeout_s=10)


def test_a_follower_that_does_not_come_to_the_end_ends_at_once(kafka: Kafka, config: Config) -> None:
    kafka.write(config.kafka.topics.control, Codec().encode(to_control(rollout())))
    kafka.at_once = 0
    told: list[object] = []
    follower = followed(config, told.append)
    closer = threading.Thread(target=follower.close, daemon=True)
    closer.start()
    closer.join(10)
    assert not closer.is_alive()
    assert told == []  # half of what there is holds nowhere


@contextmanager
def controlled(config: Config) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=control, args=(config, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_good_replies_promote_none_before_the_bad_ones_behind_them_are_read(
    kafka: Kafka, config: Config, told: CollectorRegistry
) -> None:
    begun, replies = rollout(), config.kafka.topics.replies
    kafka.write(config.kafka.topics.control, Codec().encode(to_control(begun)))
    model = config.tiers["small"].model
    for number in range(1_400):
        arm, model_id = (None, model) if number % 2 else (begun.arm, model if number < 1_000 else "stand-in")
        reply = make_reply(request_id=f"r{number}", arm=arm, tier="small", model_id=model_id)
        kafka.write(replies, Codec().encode(reply))
    kafka.held_back[replies] = 1_000

    def says(guard: str) -> float | None:
        return told.get_sample_value("forebay_rollout_guard_state", {"rollout": "terse", "guard": guard})

    with controlled(config), closing(Mover(config)) as mover:
        eventually(lambda: says("complaints") == 1.0, "all guards hold over what is read", timeout_s=10)
        kafka.held_back.clear()
        ended = eventually(
            lambda: (one := mover.known()["terse"]).stage is not Stage.TEN and one, "it is moved", timeout_s=10
        )
    assert [step.what for step in ended.history] == ["start", "roll back"]


def test_what_holds_survives_compaction_though_whoever_lost_a_race_was_killed(kafka: Kafka, config: Config) -> None:
    topic, by = config.kafka.topics.control, {"why": "", "now_ms": NOW_MS + 1}
    begun = rollout()
    ended, promoted = roll_back(begun, who="ada", **by), promote(begun, who="bob", **by)
    kafka.write(topic, *(Codec().encode(to_control(one)) for one in (begun, ended, promoted)))

    def compacted() -> Rollout | None:
        return of_control(Codec().decode(kafka.topics[topic][-1], Control))

    with controlled(config):
        last = eventually(lambda: compacted() != promoted and compacted(), "what holds is said again", timeout_s=10)
    assert (last.stage, last.history[-1].what) == (Stage.ROLLED_BACK, "restate")
    with closing(Mover(config)) as mover:
        mover.mend("ada")
    assert compacted() == last  # once is enough


def test_of_two_that_are_started_at_once_and_do_not_go_together_the_later_gives_way(
    kafka: Kafka, config: Config
) -> None:
    def begin(known: Mapping[str, Rollout], now_ms: int) -> Rollout:
        begun = start(known, "late", rollout().overrides, config, stage=Stage.TEN, who="bob", why="", now_ms=NOW_MS + 1)
        kafka.write(config.kafka.topics.control, Codec().encode(to_control(rollout("early"))))  # by another
        return begun

    with closing(Mover(config)) as mover:
        with pytest.raises(RolloutError, match=r"late: is rolled back, .* is changed by the rollout early too"):
            mover.move(begin)
        assert {one.name: one.stage for one in mover.known().values()} == {
            "early": Stage.TEN,
            "late": Stage.ROLLED_BACK,
        }


def test_the_controller_ends_the_later_one_where_its_starter_did_not_see_the_other(
    kafka: Kafka, config: Config
) -> None:
    both = rollout("early"), rollout("late", started_ms=NOW_MS + 1)
    kafka.write(config.kafka.topics.control, *(Codec().encode(to_control(one)) for one in both))
    with controlled(config), closing(Mover(config)) as mover:
        ended = eventually(
            lambda: (late := mover.known()["late"]).stage is Stage.ROLLED_BACK and late, "its end", timeout_s=10
        )
        assert mover.known()["early"].stage is Stage.TEN
    assert "is changed by the rollout early too" in ended.history[-1].why
