"""How often the router sends a request to a tier that answers it otherwise than the one above, by category."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from forebay_jobs.router.router import CHANCE
from forebay_schemas.records import Audit

from ..statistics import Interval, share_interval
from .standing import Standing

MOST = 0.05
"""Share of wrongly routed answers above which there is something to do; the alert's too."""
LEAST = 30
"""Audits that tell below which none is found above it, as of the alert: one that differs, alone, would be."""
Finding = Literal["within", "above", "unsure"]


@dataclass(frozen=True, slots=True)
class Error:
    """The measured error of some answers.

    Attributes:
        name: the category, and what else they are told apart by.
        judged: audits that tell; of these ``differ`` say something else than the tier above.
        untold: audits that do not tell: the judge was unsure, or the tier above gave no answer.
        escalated: answers that did not go out, beside them.
        share: of the answers that differ, each audit counting for as many answers as it stands for; None where no audit
            tells.
    """

    name: str
    judged: int
    differ: int
    untold: int
    escalated: int
    share: Interval | None

    def finding(self, most: float) -> Finding:
        """On which side of ``most`` the whole interval lies; that of fewer than ``LEAST`` audits tells nothing."""
        if self.share is None or self.judged < LEAST or self.share.low <= most < self.share.high:
            return "unsure"
        return "above" if self.share.low > most else "within"


def errors(audits: Sequence[Audit], standing: Standing, by_tier: bool = False, by_scorer: bool = False) -> list[Error]:
    """The error of each category, in the order of their names.

    Categories without settings of their own are one, ``default``, as they were audited. Arms of rollouts are left out
    unless all are routed as they were.

    Args:
        by_tier: tell the tiers of a category apart.
        by_scorer: tell apart what learned weights routed, and what rules did.
    """
    groups: dict[str, list[Audit]] = {}
    for audit in audits:
        if audit.reason in ("tier_above", "escalation") and standing.routes(audit.arm):
            category = audit.category if audit.category in standing.config.categories else "default"
            apart = ([audit.tier] if by_tier else []) + ([_scorer(audit)] if by_scorer else [])
            groups.setdefault(" ".join([category, *apart]), []).append(audit)
    return [_error(name, group) for name, group in sorted(groups.items())]


def _scorer(audit: Audit) -> str:
    return "weights" if any(name.startswith(CHANCE) for name in audit.features) else "rules"


def _error(name: str, audits: Iterable[Audit]) -> Error:
    compared = [audit for audit in audits if audit.reason == "tier_above"]
    told = [audit for audit in compared if audit.agrees is not None]
    return Error(
        name=name,
        judged=len(told),
        differ=sum(audit.agrees is False for audit in told),
        untold=len(compared) - len(told),
        escalated=sum(audit.reason == "escalation" for audit in audits),
        share=_share(told) if told else None,
    )


def _share(told: Sequence[Audit]) -> Interval:
    """The weighted share that differs, with the score interval of as many equal ones as tell the same (Kish, 1965)."""
    weight = sum(audit.weight for audit in told)
    differ = sum(audit.weight for audit in told if audit.agrees is False)
    equal = weight**2 / sum(audit.weight**2 for audit in told)
    return share_interval(differ / weight * equal, equal)
