"""A task is answered by the settings that it carries, and by the worker's own where those cannot be had."""

import dataclasses
from pathlib import Path

import pytest
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import Task
from forebay_workers.backends import GenerationError, GenerationRequest, ModelBackend
from forebay_workers.backends.pool import Pool
from forebay_workers.backends.shelf import Shelf
from forebay_workers.lanes import Delivery

from .doubles import configured, delivery, task_for
from .saying import SETTINGS, Answering, saying, task_of
from .test_pool import REQUEST, Scripted

ARM = "terse@1760000000000"


@pytest.fixture
def answering(tmp_path: Path) -> Answering:
    return Answering(tmp_path)


def carrying(**overrides: str) -> Delivery:
    values = {f"tiers.small.{name}": value for name, value in overrides.items()}
    return delivery(task_for(arm=ARM, overrides=values))


def test_model_prompt_and_limits_are_those_of_the_task(answering: Answering) -> None:
    answering.pool.says = [saying(model_id="middle")]
    reply = answering.reply(carrying(model='"middle"', system_prompt='"Be brief."', max_tokens="7"))
    (asked,) = answering.pool.asked
    assert (asked.model, asked.max_tokens, asked.messages[0].content) == ("middle", 7, "Be brief.")
    assert (reply.arm, reply.model_id) == (ARM, "middle")
    assert reply.cost == pytest.approx((1000 * 0.005 + 10 * 0.01) / 1000)  # no cached price of its own
    answering.reply(delivery(task_for()))
    assert (answering.pool.asked[-1].model, answering.pool.asked[-1].max_tokens) == ("model", 100)


def test_escalation_is_by_the_rules_of_the_task_and_the_next_tier_gets_them_too(answering: Answering) -> None:
    doubtful = {"categories.default.escalation.min_confidence": "0.9"}
    answering.pool.says = [saying(confidence=0.8)]
    outcome = answering.outcome(delivery(task_for(arm=ARM, overrides=doubtful)))
    assert outcome.handed_to == "medium"
    task: Task = task_of(outcome)
    assert (task.arm, task.overrides) == (ARM, doubtful)
    assert answering.outcome(delivery(task_for())).handed_to is None


def test_a_worker_that_does_not_know_what_a_rollout_names_answers_by_its_own_settings(answering: Answering) -> None:
    reply = answering.reply(carrying(model='"of a newer file"', max_tokens="7"))
    assert (reply.error, reply.model_id, reply.arm) == (None, "model", ARM)
    assert answering.pool.asked[0].max_tokens == 100


# Where a rollout's model is


class Rig:
    """A pool of one model, in a worker whose configuration has others."""

    def __init__(self, path: Path, **loaded: Scripted) -> None:
        vllm = '[models.heavy]\nbackend = "vllm"\nweights = "w"\nprice = { input_per_1k = 0, output_per_1k = 0 }\n'
        self.own = Scripted("model", ["own"])
        self.backends: dict[str, ModelBackend] = {"model": self.own, **loaded}  # pyright: ignore[reportAttributeAccessIssue]: neither is started nor stopped here
        self.pool = Pool(self.own, (), Shelf(configured(SETTINGS + vllm, path), self.backends))

    async def answers(self, model: str | None) -> str:
        return (await self.pool.generate(asked_of(model))).model_id


def asked_of(model: str | None) -> GenerationRequest:
    return dataclasses.replace(REQUEST, model=model)


async def test_a_rollouts_model_is_opened_once_and_only_for_those_who_ask_for_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert [await rig.answers(name) for name in ("middle", "model", None, "middle")] == [
        "middle", "model", "model", "middle",
    ]  # fmt: skip
    assert rig.backends.keys() == {"model", "middle"}  # whoever stops them stops both


async def test_the_tiers_own_model_stands_in_for_one_that_fails_or_is_not_loaded(tmp_path: Path) -> None:
    broken = Scripted("broken", [], GenerationError(ErrorCode.ENGINE_FAILED, "it broke"))
    rig = Rig(tmp_path, broken=broken)
    assert [await rig.answers(name) for name in ("broken", "heavy")] == ["model", "model"]
    assert broken.calls == ["generate task-1"]


async def test_those_who_ask_for_a_rollouts_model_wait_for_those_who_may_answer_them_only(tmp_path: Path) -> None:
    canary = Scripted("canary", ["hi"])
    rig = Rig(tmp_path, canary=canary)
    canary.rests = False

    def taken(*names: str | None) -> list[int]:
        return [rig.pool.takes_for(name) for name in names]

    rig.own.takes = 0
    assert taken("canary", "model", None, "heavy") == [8, 0, 0, 0]
    assert rig.pool.takes_for("middle") == 1, "it is not open yet, and one opens it"
    assert [rig.pool.can_rest(name, structured=False) for name in ("canary", "model")] == [False, True]
    rig.own.takes, canary.takes = 3, 0
    assert taken("canary", "model", "middle", "heavy") == [3, 3, 3, 3]


async def test_what_rests_rests_in_a_rollouts_model_too(tmp_path: Path) -> None:
    canary = Scripted("canary", ["hi"])
    rig = Rig(tmp_path, canary=canary)
    await rig.answers("canary")
    rig.pool.hold("task-1")
    rig.pool.release("task-1")
    assert canary.calls == ["generate task-1", "hold task-1", "release task-1"]
