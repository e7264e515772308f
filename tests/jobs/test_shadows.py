"""Shadows: which answers a second tier is asked for, what becomes of its answer, and what survives a failure."""

from pathlib import Path
from typing import Any

import pytest
from forebay_jobs.judging.aside import JudgeAside
from forebay_jobs.judging.judge import Judge
from forebay_jobs.messages import Outgoing
from forebay_jobs.router.weights import encoded
from forebay_jobs.sampling import Sampler
from forebay_jobs.shadows import JUDGED_WITHIN_MS, LOOK_MS
from forebay_ops.routing.training import train
from forebay_schemas.config import Config, changed
from forebay_schemas.records import Audit, CachePolicy, Hop, Lane, ReplyError, Request, Task, Usage
from forebay_schemas.rollouts import Guards, Rollout, Stage

from tests.builders import user
from tests.ops.routing_labels import EASY, HARD, data_in, lines, vector, write

from .doubles import CODEC, DeskRig, LetterEmbedder, configured, is_task, only_task, reply_to, task_of

ALL: dict[str, Any] = {"audits": {"share": 1.0, "remembered": 0.0}}


def audited(**sections: Any) -> Config:
    """A configuration in which every answer is audited, and none remembered, with other settings changed besides."""
    return changed(changed(configured(), ALL), sections)


def audits(sent: list[Outgoing]) -> list[Audit]:
    return [CODEC.decode(one.value, Audit) for one in sent if one.topic == "llm.audit"]


class Auditing(DeskRig):
    """A desk whose judge works on its thread's work when time passes."""

    def answer(self, request_id: str = "asked", text: str = "By post.", /, **fields: Any) -> list[Outgoing]:
        """A request is answered; what the desk writes then and at its next tick."""
        reply = {name: fields.pop(name) for name in ("path", "tier", "cost", "finish_reason") if name in fields}
        task = self.lead(request_id, **fields)
        reply = {"text": text, "tier": task.route.tier, "cost": 0.25, **reply}
        return self.settle(task, reply_to(task, **reply)) + self.tick()

    def answer_another(self, number: int) -> list[Outgoing]:
        """One of many different requests is answered."""
        return self.answer(f"asked-{number}", messages=[user(f"Where is parcel {number}?")])

    def shadow(self, request_id: str = "asked", text: str = "By post.", /, **fields: Any) -> Task:
        """A request is answered, and the task by which another tier is asked too."""
        (task,) = [task_of(one) for one in self.answer(request_id, text, **fields) if is_task(one)]
        return task

    def second(self, task: Task, text: str = "By post.", **fields: Any) -> list[Outgoing]:
        """Another tier answers too; what the desk writes until that is compared."""
        sent = self.settle(task, reply_to(task, text=text, tier=task.route.tier, **fields))
        self.aside.work()
        return sent + self.tick(after_ms=LOOK_MS + 1_000)


@pytest.fixture
def rig() -> Auditing:
    return Auditing(audited())


# What is asked


def test_the_tier_above_is_asked_the_same_on_the_batch_lane_and_for_nobody(rig: Auditing) -> None:
    rig.ask("asked", user="ada", stream=True, deadline_ms=rig.now_ms + 60_000, metadata={"row": "1"}, temperature=0.2)
    task = only_task(rig.tick())
    rig.settle(task, reply_to(task, tier="small", text="By post."))
    (sent,) = rig.tick()
    asked = task_of(sent)
    assert (sent.topic, asked.reply_topic, asked.route.reason) == ("llm.tier.medium.batch", "llm.audit", "shadow")
    request, first = (CODEC.decode(one.request, Request) for one in (asked, task))
    assert request.messages == first.messages
    assert request.temperature == 0.2
    assert (request.min_tier, request.max_tier, request.lane) == ("medium", "medium", Lane.BATCH)
    assert request.cache.policy is CachePolicy.BYPASS
    assert request.request_id != "asked"
    assert (request.user, request.stream, request.deadline_ms, request.metadata) == (None, False, None, {})


@pytest.mark.parametrize(
    ("tier", "bounds", "reason", "asked"),
    [
        ("small", {}, "tier_above", "medium"),
        ("medium", {}, "tier_above", "large"),
        ("large", {}, "tier_below", "medium"),
        ("medium", {"max_tier": "medium"}, "tier_below", "small"),
    ],
)
def test_it_is_the_tier_above_or_else_the_one_below_within_the_requests_bounds(
    rig: Auditing, tier: str, bounds: dict[str, str], reason: str, asked: str
) -> None:
    task = rig.shadow(tier=tier, **bounds)
    assert task.route.tier == asked
    (audit,) = audits(rig.second(task))
    assert (audit.tier, audit.other_tier, audit.reason) == (tier, asked, reason)


@pytest.mark.parametrize(
    "fields",
    [
        {"min_tier": "small", "max_tier": "small"},
        {"temperature": 0.9},
        {"finish_reason": "length"},
    ],
)
def test_what_may_not_be_asked_or_would_say_nothing_is_not_asked(rig: Auditing, fields: dict[str, Any]) -> None:
    assert rig.answer(**fields) == []


def test_what_is_too_long_to_wait_in_the_state_is_not_asked_and_not_kept(rig: Auditing) -> None:
    assert rig.answer("asked", "long " * 20_000) == []
    task = rig.shadow("other", messages=[user("Where is it?")])
    (audit,) = audits(rig.settle(task, reply_to(task, text="long " * 20_000, tier="medium")))
    assert (audit.request_id, audit.agrees, audit.other_error) == ("other", None, None)
    assert not any(key.startswith("^") for key in rig.state.flights)


def test_neither_errors_nor_what_the_job_asked_itself_are_audited(rig: Auditing) -> None:
    task = rig.shadow()
    assert not any(map(is_task, rig.second(task)))
    rig.forget_all()
    assert rig.state.empty


# What comes of it


@pytest.mark.parametrize(
    ("first", "second", "agrees", "by"),
    [("By post.", "by post", True, "text"), ("On 3 May.", "On 4 May.", False, "details"), ("aaab", "abbb", None, None)],
)
def test_what_the_judge_finds_is_told_with_what_the_router_saw(
    rig: Auditing, first: str, second: str, agrees: bool | None, by: str | None
) -> None:
    sent = rig.second(rig.shadow("asked", first), second, model_id="bigger", cost=0.5)
    (audit,) = audits(sent)
    assert (audit.request_id, audit.tenant, audit.agrees, audit.judged_by) == ("asked", "acme", agrees, by)
    assert (audit.model_id, audit.cost, audit.other_model_id, audit.other_cost) == ("llama-3.1-8b", 0.25, "bigger", 0.5)
    assert audit.features["recognised"] == 1.0
    assert audit.question == "How do I return a parcel?"
    assert first.encode() not in sent[0].value
    outcome = {True: "agrees", False: "differs", None: "unsure"}[agrees]
    assert rig.metrics.audits.labels("tier_above", "default", "small", outcome)._value.get() == 1


def test_the_second_answer_is_in_no_cache_and_no_services_reply(rig: Auditing) -> None:
    task = rig.shadow()
    before = rig.answers.answers.copy()
    rig.second(task, "By train.")
    assert rig.answers.answers == before
    assert [answer.text for answer in before.values()] == ["By post."]


def test_a_second_tier_that_fails_is_told_as_such(rig: Auditing) -> None:
    task = rig.shadow()
    error = ReplyError(code="given_up", message="why", retryable=False)
    (audit,) = audits(rig.second(task, "", error=error))
    assert (audit.other_error, audit.agrees, audit.judged_by) == ("given_up", None, None)


@pytest.mark.parametrize(("says", "agrees"), [("same", True), ("different", False), ("hm", None)])
def test_what_the_judge_leaves_open_the_large_tier_says_where_the_category_wants_it(
    says: str, agrees: bool | None
) -> None:
    rig = Auditing(audited(categories={"default": {"judge": {"by": "model"}}}))
    (asked,) = [task_of(one) for one in rig.second(rig.shadow("asked", "aaab"), "abbb")]
    assert (asked.route.tier, asked.reply_topic) == ("large", "llm.audit")
    (audit,) = audits(rig.settle(asked, reply_to(asked, text=says)))
    assert (audit.request_id, audit.agrees) == ("asked", agrees)
    rig.forget_all()
    assert rig.state.empty


def test_an_escalation_is_a_label_of_the_tier_that_it_left() -> None:
    rig = Auditing(changed(configured(), {"audits": {"share": 0.0, "remembered": 0.0}}))
    hop = Hop(tier="small", model_id="llama-3.1-8b", reason="confidence", usage=Usage(), cost=0.125)
    gone = Hop(tier="medium", model_id="llama-3.1-70b", reason="unavailable")
    (audit,) = audits(rig.answer(path=[hop, gone], tier="large"))
    assert (audit.reason, audit.tier, audit.other_tier, audit.agrees) == ("escalation", "small", "large", False)
    assert (audit.judged_by, audit.cost) == ("confidence", 0.125)


def test_of_some_answers_what_the_router_saw_is_kept_for_feedback_to_teach() -> None:
    rig = Auditing(changed(configured(), {"audits": {"share": 0.0, "remembered": 0.5}}))
    kept = [audit for number in range(8) for audit in audits(rig.answer_another(number))]
    assert len(kept) == 4
    assert {(audit.reason, audit.agrees, audit.other_tier) for audit in kept} == {("remembered", None, None)}
    assert all((audit.question or "").startswith("Where is parcel") for audit in kept)


# What survives


def test_the_comparison_survives_a_restart_between_both_answers_and_after(rig: Auditing) -> None:
    task = rig.shadow("asked", "On 3 May.")
    rig.aside = JudgeAside(Judge(rig.config, LetterEmbedder()))
    rig.desk = rig.a_desk()
    assert rig.settle(task, reply_to(task, text="On 4 May.", tier="medium")) == []
    rig.aside = JudgeAside(Judge(rig.config, LetterEmbedder()))  # what was put aside is gone with its process
    rig.desk = rig.a_desk()
    assert rig.tick(after_ms=LOOK_MS + 1_000) == []
    rig.aside.work()
    (audit,) = audits(rig.tick(after_ms=LOOK_MS + 1_000))
    assert audit.agrees is False
    rig.forget_all()
    assert rig.state.empty


def test_what_waits_for_the_judge_is_not_read_again_meanwhile(rig: Auditing, monkeypatch: pytest.MonkeyPatch) -> None:
    task = rig.shadow()
    rig.settle(task, reply_to(task, text="By post.", tier="medium"))
    with monkeypatch.context() as patched:
        patched.setattr(CODEC, "decode", lambda *_: 1 / 0)
        assert [rig.tick(after_ms=LOOK_MS + 1_000) for _ in range(3)] == [[]] * 3
    rig.aside.work()
    (audit,) = audits(rig.tick(after_ms=LOOK_MS + 1_000))
    assert audit.agrees is True


def test_a_judge_that_never_comes_to_it_is_waited_for_a_while(rig: Auditing) -> None:
    task = rig.shadow()
    rig.settle(task, reply_to(task, text="By train.", tier="medium"))
    sent = [one for _ in range(JUDGED_WITHIN_MS // 10_000 + 1) for one in rig.tick(after_ms=10_000)]
    (audit,) = audits(sent)
    assert audit.agrees is None


def test_a_job_that_was_set_back_asks_the_same_task_again(rig: Auditing) -> None:
    task = rig.lead()
    before = rig.state.copy()
    rig.settle(task, reply_to(task, tier="small"))
    asked = only_task(rig.tick())
    rig.state, rig.desk = before, rig.a_desk()
    rig.settle(task, reply_to(task, tier="small"))
    assert only_task(rig.tick()).task_id == asked.task_id


def test_no_more_wait_than_there_are_places(rig: Auditing) -> None:
    rig = Auditing(audited(audits={"most_open": 4}))
    asked = [one for number in range(50) for one in rig.answer_another(number) if is_task(one)]
    assert 1 <= len(asked) <= 4
    assert rig.metrics.audits.labels("tier_above", "default", "small", "skipped")._value.get() == 50 - len(asked)


def test_one_that_never_comes_frees_its_place(rig: Auditing) -> None:
    rig.shadow()
    for _ in range(30):
        rig.tick(after_ms=3_600_000)
    assert rig.state.empty


# Sampling


def test_every_stratum_is_sampled_by_its_own_count() -> None:
    sampler = Sampler()
    frequent = [sampler.take(("small", "chat"), 0.01, 0) for _ in range(1_000)]
    rare = [sampler.take(("large", "legal"), 0.01, 0) for _ in range(60)]
    assert (sum(map(bool, frequent)), sum(map(bool, rare))) == (10, 1)
    assert sum(frequent) == 950  # they stand for all up to the last one taken


def test_a_rare_stratum_is_not_passed_over_for_longer_than_its_time() -> None:
    sampler = Sampler(at_least_every_s=3_600)
    hours = [sampler.take(("large", "legal"), 0.01, hour * 3_600_000) for hour in range(10)]
    assert hours == [0, 2, *[1] * 8]
    assert [sampler.take(("never",), 0.0, hour * 3_600_000) for hour in range(10)] == [0] * 10


# Rollouts in their shadow stage


def a_rollout(stage: Stage = Stage.SHADOW, **fields: Any) -> Rollout:
    values: dict[str, Any] = {
        "name": "terse",
        "version": 1,
        "overrides": {"tiers.small.system_prompt": '"Be brief."'},
        "stage": stage,
        "started_ms": 1,
        "since_ms": 1,
        "guards": Guards(shadow_share=1.0),
    }
    return Rollout(**values | fields)


def test_what_a_rollout_would_answer_is_compared_and_neither_kept_nor_shown_to_anybody() -> None:
    rig = Auditing(changed(configured(), {"audits": {"share": 0.0, "remembered": 0.0}}))
    rig.arms.follow([a_rollout()])
    task = rig.lead("asked")
    assert (task.arm, task.overrides) == (None, {})  # it is answered as ever
    rig.settle(task, reply_to(task, text="By post.", tier="small"))
    (sent,) = rig.tick()
    shadow = task_of(sent)
    assert (shadow.arm, shadow.overrides) == ("terse@1", a_rollout().overrides)
    assert (sent.topic, shadow.reply_topic) == ("llm.tier.small.batch", "llm.audit")
    kept = dict(rig.answers.answers)
    (audit,) = audits(rig.second(shadow, "By post."))
    assert (audit.reason, audit.arm, audit.agrees) == ("rollout/terse", "terse@1", True)
    assert rig.answers.answers == kept


def test_weights_that_are_rolled_out_route_their_shadows(tmp_path: Path) -> None:
    labels = data_in(write(tmp_path / "labels.jsonl", lines()))
    config = changed(configured(), {"audits": {"share": 0.0, "remembered": 0.0}})
    weights = tmp_path / "weights.msgpack"
    weights.write_bytes(encoded(train(labels, [config.embedding.model], "a test")))
    rig = Auditing(config)
    rig.meaning.vector = vector
    rig.arms.follow([a_rollout(overrides={"router.weights": f'"{weights}"'})])
    easy, hard = (
        rig.shadow(question, "An answer.", messages=[user(question)])
        for question in (EASY.format(102), HARD.format(101))
    )
    assert (easy.route.tier, hard.route.tier) == ("medium", "large")
    assert hard.route.features["chance.small"] < 0.4 < hard.route.features["chance.large"]


def test_a_rollout_that_is_started_anew_asks_for_its_own() -> None:
    rig = Auditing(changed(configured(), {"audits": {"share": 0.0, "remembered": 0.0}}))
    task = rig.lead()
    before, asked = rig.state, list[Task]()
    for started_ms in (1, 2):
        rig.state, rig.desk = before.copy(), rig.a_desk()
        rig.arms.follow([a_rollout(started_ms=started_ms)])
        rig.settle(task, reply_to(task, tier="small"))
        asked.append(only_task(rig.tick()))
    assert asked[0].task_id != asked[1].task_id


def test_a_defect_in_asking_is_no_reply_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Auditing(changed(configured(), {"audits": {"share": 0.0, "remembered": 0.0}}))
    rig.arms.follow([a_rollout()])
    monkeypatch.setattr(rig.arms, "overrides", lambda arm: 1 / 0 if arm else {})
    assert rig.answer() == []
    rig.forget_all()
    assert rig.state.empty


@pytest.mark.parametrize("stage", [Stage.TEN, Stage.ROLLED_BACK])
def test_only_in_its_shadow_stage_is_a_rollout_asked_besides(stage: Stage) -> None:
    rig = Auditing(changed(configured(), {"audits": {"share": 0.0, "remembered": 0.0}}))
    rig.arms.follow([a_rollout(stage)])
    assert rig.answer() == []


def test_an_answer_of_a_canary_is_audited_in_its_arm(rig: Auditing) -> None:
    rig.arms.follow([a_rollout(Stage.ALL)])
    task = rig.lead()
    rig.settle(task, reply_to(task, tier="small", arm="terse@1"))
    asked = only_task(rig.tick())
    assert (asked.route.tier, asked.arm) == ("medium", "terse@1")
    (audit,) = audits(rig.second(asked))
    assert (audit.reason, audit.arm) == ("tier_above", "terse@1")
