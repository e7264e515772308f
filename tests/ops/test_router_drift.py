"""`forebay router drift`: the measured error of the router, with its interval."""

from typing import Any

import pytest
from click.testing import CliRunner
from forebay_ops.cli import router_drift
from forebay_ops.outcomes.drift import errors
from forebay_ops.outcomes.reading import Outcomes
from forebay_schemas.records import Audit

from tests.builders import NOW_MS


def audit(number: int = 0, /, **fields: Any) -> Audit:
    return Audit(
        **{
            "request_id": f"request-{number}",
            "tenant": "acme",
            "audited_ms": NOW_MS,
            "reason": "tier_above",
            "tier": "small",
            "model_id": "llama-3.1-8b",
            "category": "chat",
            "other_tier": "medium",
            "agrees": True,
            **fields,
        }
    )


def audits(count: int, differ: int, **fields: Any) -> list[Audit]:
    return [audit(number, agrees=number >= differ, **fields) for number in range(count)]


def test_of_equal_weights_it_is_the_share_that_differs_and_wilsons_interval() -> None:
    (error,) = errors(audits(100, 10))
    assert (error.judged, error.differ) == (100, 10)
    assert error.share is not None
    assert (error.share.mean, error.share.low, error.share.high) == pytest.approx((0.1, 0.0552, 0.1744), abs=1e-4)


def test_an_audit_counts_for_as_many_answers_as_it_stands_for() -> None:
    rare = audits(50, 25, tier="medium", weight=2)
    (error,) = errors([*audits(50, 0, weight=98), *rare])
    (alone, _) = errors([*audits(50, 0, weight=98), *rare], by_tier=True)
    assert error.share is not None
    assert alone.share is not None
    assert error.share.mean == pytest.approx(0.01)
    assert (alone.name, alone.share.mean) == ("chat medium", 0.5)


def test_only_what_the_tier_above_says_is_an_error() -> None:
    others = [
        audit(1, reason="tier_below", tier="large", agrees=False),
        audit(2, reason="rollout/new", agrees=False),
        audit(3, reason="remembered", agrees=None),
        audit(4, reason="escalation", agrees=False),
        audit(5, agrees=None),
    ]
    (error,) = errors([*audits(20, 0), *others])
    assert (error.judged, error.differ, error.untold, error.escalated) == (20, 0, 1, 1)


@pytest.mark.parametrize(
    ("count", "differ", "finding", "code"),
    [(200, 30, "above", 1), (200, 0, "within", 0), (20, 2, "unsure", 0), (0, 0, "unsure", 0)],
)
def test_the_exit_code_tells_what_is_surely_above(
    monkeypatch: pytest.MonkeyPatch, count: int, differ: int, finding: str, code: int
) -> None:
    found = Outcomes([*audits(count, differ), audit(999, agrees=None)], [])
    monkeypatch.setattr(router_drift, "read_outcomes", lambda *_: found)
    result = CliRunner().invoke(router_drift.drift)
    assert result.exit_code == code
    (row,) = result.output.splitlines()[1:]
    assert row.split()[0] == "chat"
    assert row.split()[-1] == finding


def test_without_audits_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_drift, "read_outcomes", lambda *_: Outcomes([], []))
    result = CliRunner().invoke(router_drift.drift)
    assert result.exit_code == 1
    assert "audits.share" in result.output
