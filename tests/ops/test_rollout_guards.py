"""Guards end a rollout that is worse, let one pass that is not, and are seldom wrong however often they are asked."""

import random
from dataclasses import replace
from typing import Any

import pytest
from forebay_ops.rollouts.evidence import Counting
from forebay_ops.rollouts.guards import ALPHA, Evidence, Figures, Move, State, decided, judged
from forebay_schemas.config import load_config
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import Audit, CacheStatus, Hop, Latency, Reply, ReplyError, Verdict
from forebay_schemas.rollouts import Guards, Rollout, Stage

from tests.builders import NOW_MS, make_feedback, make_reply, make_rollout

LIMITS = Guards(min_minutes=1, min_replies=100)
BROKE = ReplyError(code=ErrorCode.GIVEN_UP, message="", retryable=False)


def rollout(**fields: Any) -> Rollout:
    return make_rollout(**{"overrides": {"tiers.small.model": '"llama-3.1-70b"'}, "guards": LIMITS, **fields})


def figures(generated: int = 1_000, **fields: Any) -> Figures:
    return Figures(**{"replies": generated, "generated": generated, "generation_ms": [100.0] * generated} | fields)


def fate(canary: Figures, baseline: Figures | None = None, minutes: float = 2, **fields: Any) -> tuple[Move, str]:
    evidence = Evidence(canary, baseline or figures())
    return decided(rollout(**fields), evidence, NOW_MS + round(minutes * 60_000))


def test_one_that_does_as_well_is_promoted_when_its_time_and_sample_are_there() -> None:
    assert fate(figures())[0] is Move.PROMOTE
    assert fate(figures(), minutes=0.5) == (Move.STAY, "the stage lasts 1 more minutes at least")
    assert fate(figures(60)) == (Move.STAY, "60 of 100 generated replies in the smaller arm")
    assert fate(figures(), paused=True) == (Move.STAY, "it is paused")
    assert fate(figures(), stage=Stage.ALL)[0] is Move.STAY
    move, why = fate(figures(150))  # a third of a per cent of failures cannot be told from two by so few
    assert (move, why) == (Move.STAY, "not sure yet: errors, complaints")


@pytest.mark.parametrize(
    ("worse", "why"),
    [
        ({"failures": 100}, "errors: 10.0%, above 2.0% (0.0% in the baseline)"),
        ({"escalated": 200}, "escalations: 20.0%, above 5.0% (0.0% in the baseline)"),
        ({"complaints": 90}, "complaints: 9.0%, above 2.0% (0.0% in the baseline)"),
        ({"generation_ms": [100.0] * 850 + [900.0] * 150}, "slower: P95 900 ms, above 150 ms"),
    ],
)
def test_each_guard_ends_what_is_worse_also_while_it_is_paused_and_before_its_time(
    worse: dict[str, Any], why: str
) -> None:
    assert fate(figures(**worse), minutes=0.1, paused=True) == (Move.ROLL_BACK, why)
    assert fate(figures(), replace(figures(), **worse))[0] is Move.PROMOTE  # worse than the baseline, not at all


def test_a_part_of_the_evidence_may_end_a_rollout_and_promotes_none() -> None:
    now_ms = NOW_MS + 120_000
    assert decided(rollout(), Evidence(figures(), figures()), now_ms, caught_up=False)[0] is Move.STAY
    broken = Evidence(figures(failures=100), figures())
    assert decided(rollout(), broken, now_ms, caught_up=False)[0] is Move.ROLL_BACK


def test_an_arm_that_only_fails_is_ended_after_a_few_replies() -> None:
    assert fate(figures(30, failures=30, generation_ms=[]), figures(30), minutes=0.01)[0] is Move.ROLL_BACK
    assert fate(figures(10, failures=10, generation_ms=[]), figures(30), minutes=0.01)[0] is Move.STAY


@pytest.mark.parametrize(("excess", "wrong"), [(0.0, State.BROKEN), (0.02, State.HOLDS), (0.02, State.BROKEN)])
def test_a_guard_that_is_asked_after_every_few_replies_is_seldom_wrong(excess: float, wrong: State) -> None:
    runs, errors = 200, 0
    for seed in range(runs):
        dice, canary, baseline = random.Random(seed), figures(0), figures(0)
        for count in range(20, 2_000, 20):
            for side, chance in ((canary, 0.05 + excess), (baseline, 0.05)):
                side.generated = count
                side.failures += sum(dice.random() < chance for _ in range(20))
            (errors_guard, *_) = judged(Evidence(canary, baseline), LIMITS, Stage.TEN)
            if errors_guard.state is not State.OPEN:
                errors += errors_guard.state is wrong
                break
    assert errors / runs <= ALPHA


# What is counted


class Counted:
    """The evidence of one rollout, of records that a test makes."""

    def __init__(self, **fields: Any) -> None:
        self.rollout = rollout(**fields)
        self.counting = Counting(load_config())
        self.counting.follow({"terse": self.rollout})
        self.number = 0

    def reply(self, arm: str | None, **fields: Any) -> Reply:
        self.number += 1
        model = "llama-3.1-70b" if arm else "llama-3.1-8b"
        values = {"request_id": f"r{self.number}", "arm": arm, "tier": "small", "model_id": model}
        reply = make_reply(**values | fields)
        self.counting.reply(reply)
        return reply

    @property
    def evidence(self) -> Evidence:
        return self.counting.of(self.rollout)


def test_each_arm_is_counted_apart_and_each_reply_once() -> None:
    counted = Counted()
    arm = counted.rollout.arm
    reply = counted.reply(arm, latency=Latency(generation_ms=70.0))
    counted.counting.reply(reply)
    counted.reply(f"other@1+{arm}")
    counted.reply("other@1")
    counted.reply(None)
    assert (counted.evidence.canary.generated, counted.evidence.baseline.generated) == (2, 2)
    assert counted.evidence.canary.generation_ms == [70.0, 0.0]


def test_failures_are_errors_of_workers_and_answers_of_another_model() -> None:
    counted = Counted()
    arm = counted.rollout.arm
    counted.reply(arm, error=BROKE)
    counted.reply(arm, model_id="llama-3.1-8b")
    counted.reply(arm, error=ReplyError(code=ErrorCode.CANCELLED, message="", retryable=False))
    counted.reply(arm, error=BROKE, route=None, cache_status=CacheStatus.BYPASS)  # the job refused it
    assert (counted.evidence.canary.generated, counted.evidence.canary.failures) == (2, 2)


def test_escalations_and_complaints_are_counted_where_they_belong() -> None:
    counted = Counted()
    arm = counted.rollout.arm
    hop = Hop(tier="small", model_id="llama-3.1-70b", reason="refusal")
    counted.reply(arm, tier="medium", path=[hop])
    again = counted.reply(arm, cache_status=CacheStatus.EXACT, hops=0)
    for _ in range(2):
        counted.counting.feedback(make_feedback(request_id=again.request_id))
    counted.counting.feedback(make_feedback(request_id="r1", verdict=Verdict.UP))
    counted.counting.feedback(make_feedback(request_id="unknown"))
    canary = counted.evidence.canary
    assert (canary.replies, canary.generated, canary.escalated, canary.complaints) == (2, 1, 1, 1)


def test_of_an_arm_that_is_over_no_model_is_known_to_have_stood_in() -> None:
    counted = Counted()
    ended = rollout(name="other", overrides={"tiers.medium.model": '"llama-3.1-8b"'}, stage=Stage.ROLLED_BACK)
    counted.counting.follow({"terse": counted.rollout, "other": ended})
    counted.reply(ended.arm, tier="medium", model_id="llama-3.1-8b")
    counted.reply(f"{ended.arm}+{counted.rollout.arm}", tier="medium", model_id="llama-3.1-8b")
    assert (counted.evidence.canary.failures, counted.evidence.baseline.failures) == (0, 0)
    counted.reply(None, tier="medium", model_id="llama-3.1-8b")
    assert counted.evidence.baseline.failures == 1


def test_a_complaint_counts_though_it_is_read_before_its_reply() -> None:
    counted = Counted()
    for _ in range(2):
        counted.counting.feedback(make_feedback(request_id="r1"))
    assert counted.evidence.canary.complaints == 0
    counted.reply(counted.rollout.arm)
    assert counted.evidence.canary.complaints == 1


def test_the_canary_of_a_shadow_stage_are_its_audits() -> None:
    counted = Counted(stage=Stage.SHADOW)
    arm = counted.rollout.arm
    counted.reply(None)
    values = {
        "request_id": "r1", "tenant": "acme", "audited_ms": NOW_MS, "reason": "rollout/terse", "tier": "small",
        "model_id": "llama-3.1-8b", "arm": arm, "other_tier": "small", "other_model_id": "llama-3.1-70b",
    }  # fmt: skip
    for number, fields in enumerate(
        (
            {"agrees": True},
            {"agrees": False},
            {"agrees": None},
            {"other_error": "given_up", "agrees": None},
            {
                "other_model_id": "llama-3.1-8b",
                "agrees": True,
            },  # another model stood in: that says nothing about its answers
            {"model_id": "llama-3.1-70b", "agrees": True},  # likewise of what was served
            {"arm": "terse@1", "agrees": True},  # of an earlier rollout of this name
            {"reason": "tier_above", "agrees": True},
            {"reason": "terse", "agrees": True},
        )
    ):
        audit = Audit(**values | {"request_id": f"r{number}"} | fields)  # pyright: ignore[reportArgumentType]: of several types
        for _ in range(2):  # a job that was set back writes it again
            counted.counting.audit(audit)
    evidence = counted.evidence
    assert (evidence.compared, evidence.agreed) == (2, 1)
    assert (evidence.canary.generated, evidence.canary.failures) == (6, 2)
    counted.counting.follow({"terse": rollout(stage=Stage.TEN, since_ms=NOW_MS + 1)})
    counted.counting.audit(Audit(**values | {"request_id": "late", "audited_ms": NOW_MS + 2}))  # pyright: ignore[reportArgumentType]: of several types
    assert counted.evidence == Evidence()


def test_a_shadow_fails_no_more_often_than_a_baseline_that_errs_and_needs_a_standby_as_often() -> None:
    counted = Counted(stage=Stage.SHADOW)
    for number in range(200):
        error = BROKE if number % 20 == 0 else None
        model = "stand-in" if number % 20 == 1 else "llama-3.1-8b"
        counted.reply(None, error=error, model_id=model)
        audit = Audit(
            request_id=f"r{number}",
            tenant="acme",
            audited_ms=NOW_MS,
            reason="rollout/terse",
            tier="small",
            model_id=model,
            arm=counted.rollout.arm,
            other_tier="small",
            other_model_id="stand-in" if number % 20 == 1 else "llama-3.1-70b",
            other_error=error and "given_up",
        )
        counted.counting.audit(audit)
    (errors, *_) = judged(counted.evidence, LIMITS, Stage.SHADOW)
    assert (errors.canary, errors.baseline) == (0.1, 0.1)


@pytest.mark.parametrize(("agreed", "fate_then"), [(980, Move.PROMOTE), (700, Move.ROLL_BACK), (820, Move.STAY)])
def test_a_shadow_goes_on_when_its_answers_agree(agreed: int, fate_then: Move) -> None:
    evidence = Evidence(figures(1_000), figures(1_000), compared=1_000, agreed=agreed)
    move, _ = decided(rollout(stage=Stage.SHADOW), evidence, NOW_MS + 120_000)
    assert move is fate_then


def test_a_new_stage_begins_with_no_evidence_and_what_came_before_does_not_count() -> None:
    counted = Counted()
    counted.reply(None)
    later = rollout(stage=Stage.FIFTY, since_ms=NOW_MS + 10_000)
    counted.counting.follow({"terse": later})
    counted.reply(None)
    assert counted.counting.of(later) == Evidence()
    counted.reply(None, completed_ms=NOW_MS + 10_000)
    assert counted.counting.of(later).baseline.generated == 1
