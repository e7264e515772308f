"""What audits, escalations and feedback say of the tiers, as labels for the router."""

from typing import Any

import pytest
from forebay_ops.outcomes import reading
from forebay_ops.outcomes.labels import labels
from forebay_ops.outcomes.reading import Outcomes, read_outcomes
from forebay_ops.outcomes.standing import Standing
from forebay_schemas.records import Audit, Feedback, Verdict
from forebay_schemas.rollouts import Rollout, Stage

from tests.builders import make_feedback
from tests.jobs.doubles import CODEC

from .test_router_drift import CONFIG, a_rollout, audit


def labelled(
    *audits: Audit, feedback: list[Feedback] | None = None, rollout: Rollout | None = None
) -> list[dict[str, bool]]:
    standing = Standing(CONFIG, {rollout.name: rollout} if rollout else {})
    found = labels(Outcomes(list(audits), feedback or []), standing)
    return [dict(each.right) for each in found]


def asked(number: int = 0, /, **fields: Any) -> Audit:
    return audit(number, **{"question": f"Question {number}?", **fields})


BELOW = {"reason": "tier_below", "tier": "large", "other_tier": "medium"}


@pytest.mark.parametrize(
    ("fields", "thumb", "right"),
    [
        ({"agrees": True}, None, {"small": True, "medium": True}),
        ({"agrees": False}, None, {"small": False}),
        ({"agrees": False, "other_tier": "large"}, None, {"small": False, "large": True}),
        ({"agrees": False, "reason": "tier_below", "tier": "medium", "other_tier": "small"}, None, {"small": False}),
        ({"agrees": True}, "down", {"small": False, "medium": False}),
        ({"agrees": False}, "down", {"small": False}),
        ({"agrees": False, "other_tier": "large"}, "down", {"small": False, "large": True}),
        ({"agrees": False}, "up", {"small": True, "medium": False}),
        ({"agrees": True, **BELOW}, None, {"medium": True, "large": True}),
        ({"agrees": False, **BELOW}, None, {"medium": False, "large": True}),
        ({"agrees": False, **BELOW}, "down", {"large": False}),
        ({"agrees": None}, "down", {"small": False}),
        ({"reason": "escalation", "agrees": False, "other_tier": "large"}, None, {"small": False}),
        ({"reason": "escalation", "agrees": False, "other_tier": "large"}, "up", {"small": False, "large": True}),
        ({"reason": "remembered", "agrees": None, "other_tier": None}, "up", {"small": True}),
    ],
)
def test_what_is_known_of_the_tiers(fields: dict[str, Any], thumb: str | None, right: dict[str, bool]) -> None:
    given = [make_feedback(request_id="request-0", verdict=Verdict(thumb))] if thumb else []
    assert labelled(asked(**fields), feedback=given) == [right]


@pytest.mark.parametrize(
    "fields",
    [
        {"agrees": None},
        {"question": None},
        {"reason": "remembered", "agrees": None},
        {"reason": "rollout/new", "agrees": False, "arm": "new@1"},
        {"agrees": False, "arm": "forgotten@1"},
        {"agrees": False, "model_id": "former"},
        {"agrees": False, "other_model_id": "former"},
        {"other_tier": "gone"},
    ],
)
def test_what_says_nothing_of_the_tiers_is_left_out(fields: dict[str, Any]) -> None:
    assert labelled(asked(**fields)) == []


@pytest.mark.parametrize(
    ("overrides", "stage", "in_arm", "before"),
    [
        ({"router.weights": '"none"'}, Stage.TEN, True, True),
        ({"router.weights": '"none"'}, Stage.ALL, True, True),
        ({"tiers.small.system_prompt": '"Be brief."'}, Stage.TEN, False, True),
        ({"tiers.small.system_prompt": '"Be brief."'}, Stage.ALL, True, False),
        ({"tiers.small.system_prompt": '"Be brief."'}, Stage.ROLLED_BACK, False, True),
    ],
)
def test_of_a_rollout_what_its_tiers_answer_as_all_do_now_is_learned_from(
    overrides: dict[str, str], stage: Stage, in_arm: bool, before: bool
) -> None:
    rollout = a_rollout(overrides, stage)
    assert bool(labelled(asked(agrees=False, arm="new@1"), rollout=rollout)) is in_arm
    assert bool(labelled(asked(agrees=False), rollout=rollout)) is before


def test_a_window_that_reaches_before_a_new_model_teaches_of_the_new_one_alone() -> None:
    former = [asked(number, agrees=False, model_id="former") for number in range(5)]
    assert labelled(*former, asked(5, agrees=True)) == [{"small": True, "medium": True}]


def test_one_thumb_down_of_several_users_is_enough_and_others_requests_are_not_meant() -> None:
    given = [
        make_feedback(request_id="request-0", user="ada", verdict=Verdict.DOWN),
        make_feedback(request_id="request-0", user="bob", verdict=Verdict.UP),
        make_feedback(request_id="request-0", tenant="rival", verdict=Verdict.DOWN),
        make_feedback(request_id="request-1", verdict=Verdict.UP),
    ]
    right = {"small": True, "medium": True}
    assert labelled(asked(0), asked(1), feedback=given) == [dict.fromkeys(right, False), right]


def test_an_answer_that_left_several_tiers_tells_of_each_and_what_was_written_twice_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hops = [asked(reason="escalation", tier=tier, agrees=False, other_tier="large") for tier in ("small", "medium")]
    written = {CONFIG.kafka.topics.audit: [CODEC.encode(hop) for hop in (*hops, hops[0])]}
    monkeypatch.setattr(reading, "values_since", lambda _, names, __: written.get(names[0], []))
    found = read_outcomes(CONFIG, 0)
    assert len(found.audits) == 2
    assert labelled(*found.audits) == [{"small": False, "medium": False}]


def test_a_label_stands_for_as_many_answers_as_its_audit_and_an_escalation_for_itself() -> None:
    escalated = asked(reason="escalation", agrees=False, other_tier="medium")
    above = asked(tier="medium", other_tier="large", agrees=True, weight=100)
    (found,) = labels(Outcomes([escalated, above], []), Standing(CONFIG, {}))
    assert found.weight == {"small": 1, "medium": 100, "large": 100}


def test_an_escalated_answer_that_was_audited_too_tells_of_three_tiers() -> None:
    escalated = asked(reason="escalation", agrees=False, other_tier="medium")
    above = asked(tier="medium", other_tier="large", agrees=False)
    assert labelled(escalated, above) == [{"small": False, "medium": False, "large": True}]
