"""`forebay router drift`: the measured error of the router, with its interval."""

from typing import Any

import pytest
from click.testing import CliRunner
from forebay_jobs.router.router import CHANCE
from forebay_ops.cli import router_drift
from forebay_ops.outcomes.drift import Error, errors
from forebay_ops.outcomes.reading import Outcomes
from forebay_ops.outcomes.standing import Standing
from forebay_schemas.config import changed, load_config
from forebay_schemas.records import Audit
from forebay_schemas.rollouts import Rollout, Stage

from tests.builders import NOW_MS

CONFIG = changed(load_config(), {"categories": {"chat": {}}})


def audit(number: int = 0, /, **fields: Any) -> Audit:
    """By the tiers' models of the default configuration, unless told otherwise."""
    fields = {"tier": "small", "other_tier": "medium"} | fields
    models = {tier: CONFIG.tiers[tier].model for tier in CONFIG.tiers}
    return Audit(
        **{
            "request_id": f"request-{number}",
            "tenant": "acme",
            "audited_ms": NOW_MS,
            "reason": "tier_above",
            "model_id": models[fields["tier"]],
            "other_model_id": models.get(fields["other_tier"]),
            "category": "chat",
            "agrees": True,
            **fields,
        }
    )


def measured(found: list[Audit], by_tier: bool = False, rollouts: list[Rollout] | None = None) -> list[Error]:
    known = {rollout.name: rollout for rollout in rollouts or []}
    return errors(found, Standing(CONFIG, known), by_tier)


def a_rollout(overrides: dict[str, str], stage: Stage) -> Rollout:
    """One whose arm is new@1."""
    return Rollout(name="new", version=1, overrides=overrides, stage=stage, started_ms=1, since_ms=1)


def audits(count: int, differ: int, **fields: Any) -> list[Audit]:
    return [audit(number, agrees=number >= differ, **fields) for number in range(count)]


def test_of_equal_weights_it_is_the_share_that_differs_and_wilsons_interval() -> None:
    (error,) = measured(audits(100, 10))
    assert (error.judged, error.differ) == (100, 10)
    assert error.share is not None
    assert (error.share.mean, error.share.low, error.share.high) == pytest.approx((0.1, 0.0552, 0.1744), abs=1e-4)


def test_an_audit_counts_for_as_many_answers_as_it_stands_for() -> None:
    rare = audits(50, 25, tier="medium", weight=2)
    (error,) = measured([*audits(50, 0, weight=98), *rare])
    (alone, _) = measured([*audits(50, 0, weight=98), *rare], by_tier=True)
    assert error.share is not None
    assert alone.share is not None
    assert error.share.mean == pytest.approx(0.01)
    assert (alone.name, alone.share.mean) == ("chat medium", 0.5)


def test_what_weights_routed_and_what_rules_did_can_be_told_apart() -> None:
    learned = audits(30, 15, features={"length": 0.1, f"{CHANCE}small": 0.9})
    found = errors([*audits(20, 0, features={"length": 0.1}), *learned], Standing(CONFIG, {}), by_scorer=True)
    assert [(error.name, error.judged, error.differ) for error in found] == [
        ("chat rules", 20, 0),
        ("chat weights", 30, 15),
    ]


def test_only_what_the_tier_above_says_is_an_error() -> None:
    others = [
        audit(1, reason="tier_below", tier="large", agrees=False),
        audit(2, reason="rollout/new", agrees=False),
        audit(3, reason="remembered", agrees=None),
        audit(4, reason="escalation", agrees=False),
        audit(5, agrees=None),
    ]
    (error,) = measured([*audits(20, 0), *others])
    assert (error.judged, error.differ, error.untold, error.escalated) == (20, 0, 1, 1)


def test_categories_without_settings_of_their_own_are_one() -> None:
    (error,) = measured([*audits(20, 0, category="one"), *audits(20, 2, category="other")])
    assert (error.name, error.judged, error.differ) == ("default", 40, 2)


@pytest.mark.parametrize(
    ("stage", "judged"),
    [(Stage.TEN, 50), (Stage.ALL, 30), (Stage.ROLLED_BACK, 50)],
)
def test_of_a_rollout_only_what_all_are_routed_by_counts(stage: Stage, judged: int) -> None:
    found = [*audits(50, 0), *audits(30, 30, arm="new@1"), *audits(30, 30, arm="forgotten@1")]
    (error,) = measured(found, rollouts=[a_rollout({"tiers.small.complexity_up_to": "0.4"}, stage)])
    assert error.judged == judged


@pytest.mark.parametrize(
    ("count", "differ", "finding", "code"),
    [
        (200, 30, "above", 3),
        (200, 0, "within", 0),
        (40, 2, "unsure", 0),
        (30, 30, "above", 3),
        (29, 29, "unsure", 0),
        (1, 1, "unsure", 0),
        (0, 0, "unsure", 0),
    ],
)
def test_the_exit_code_tells_what_is_surely_above(
    monkeypatch: pytest.MonkeyPatch, count: int, differ: int, finding: str, code: int
) -> None:
    found = Outcomes([*audits(count, differ), audit(999, agrees=None)], [])
    monkeypatch.setattr(router_drift, "read_outcomes", lambda *_: found)
    monkeypatch.setattr(router_drift, "known_rollouts", lambda _: {})
    monkeypatch.setattr(router_drift, "cli_config", lambda: CONFIG)
    result = CliRunner().invoke(router_drift.drift)
    assert result.exit_code == code
    (row,) = result.output.splitlines()[1:]
    assert row.split()[0] == "chat"
    assert row.split()[-1] == finding


def test_without_audits_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_drift, "read_outcomes", lambda *_: Outcomes([], []))
    monkeypatch.setattr(router_drift, "known_rollouts", lambda _: {})
    monkeypatch.setattr(router_drift, "cli_config", lambda: CONFIG)
    result = CliRunner().invoke(router_drift.drift)
    assert result.exit_code == 1
    assert "audits.share" in result.output
