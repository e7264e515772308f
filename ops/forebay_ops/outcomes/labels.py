"""From outcomes to labels: whose answers to a question were good, as audits, escalations and feedback say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forebay_jobs.shadows import ROLLOUT
from forebay_schemas.records import Audit, Verdict

from .reading import Outcomes
from .standing import Standing

_COMPARED = ("tier_above", "tier_below")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A question, and whose answers to it were good, as far as it is known.

    Attributes:
        right: by tier, in their order.
        weight: of the same tiers, for how many answers each label stands.
        features: of the route, as they were at the time.
    """

    question: str
    right: Mapping[str, bool]
    weight: Mapping[str, int]
    features: Mapping[str, float]


def labels(outcomes: Outcomes, standing: Standing) -> list[Labelled]:
    """What outcomes say of the tiers, one entry a request, in the order in which they were audited.

    Answers of former models, and of a rollout's arm that answers otherwise than all do now, are left out.

    - Of two tiers that agree both were right. Of two that differ the smaller one was not; the larger one was where
      it is the largest of all, by which the others are measured, and else nobody knows.
    - A tier whose answer did not go out was not right.
    - Feedback is of the answer that was served, and counts more: what agrees with it was as right. What differs from a
      right one was wrong; what differs from a wrong one is right only from the largest tier. Where several users gave
      some, one thumb down is enough.
    - A label stands for as many answers as its audit. Each escalation is told, so it stands for itself, and so does a
      thumb on an answer that was remembered: who gives one is no sample.
    """
    tiers = list(standing.config.tiers)
    thumbs: dict[tuple[str, str], bool] = {}
    for given in outcomes.feedback:
        key = (given.tenant, given.request_id)
        thumbs[key] = thumbs.get(key, True) and given.verdict is Verdict.UP
    about: dict[tuple[str, str], list[Audit]] = {}
    for audit in outcomes.audits:
        answered = standing.answers(audit.arm, audit.tier, audit.model_id)
        if audit.question and answered and not audit.reason.startswith(f"{ROLLOUT}/"):
            about.setdefault((audit.tenant, audit.request_id), []).append(audit)
    found = (_labelled(audits, thumbs.get(key), standing, tiers) for key, audits in about.items())
    return [each for each in found if each.right]


def _labelled(audits: Sequence[Audit], up: bool | None, standing: Standing, tiers: Sequence[str]) -> Labelled:
    right: dict[str, bool] = {}
    weight: dict[str, int] = {}
    for audit in audits:
        told: dict[str, bool] = {}
        other = audit.other_tier if standing.answers(audit.arm, audit.other_tier, audit.other_model_id) else None
        if audit.reason == "escalation":
            if audit.tier not in right:
                told[audit.tier] = False
            served = other
        else:
            served = audit.tier
        if up is not None and served is not None:
            told[served] = up
        if audit.reason in _COMPARED and audit.agrees is not None and other is not None:
            told |= _compared(audit.tier, other, audit.agrees, up, tiers)
        right |= told
        weight |= {tier: max(audit.weight, weight.get(tier, 1)) for tier in told}
    question = audits[0].question
    assert question is not None, "those without one are left out"
    known = [tier for tier in tiers if tier in right]
    return Labelled(
        question,
        right={tier: right[tier] for tier in known},
        weight={tier: weight[tier] for tier in known},
        features=audits[0].features,
    )


def _compared(served: str, other: str, agrees: bool, up: bool | None, tiers: Sequence[str]) -> dict[str, bool]:
    if agrees:
        return dict.fromkeys((served, other), up is not False)
    if up is None:
        smaller, larger = sorted((served, other), key=tiers.index)
        return {smaller: False} | ({larger: True} if larger == tiers[-1] else {})
    if up:
        return {served: True, other: False}
    return {served: False} | ({other: True} if other == tiers[-1] else {})
