"""What the days so far say of the month to come, and whether running this pays."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .sums import Sums

PROJECTED_DAYS = 30
_PACE_DAYS = 7
"""A whole week, so that each weekday counts once."""
DAYS_PER_MONTH = 365.25 / 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """The next 30 days, where they are like the last whole ones: at most seven of them.

    Attributes:
        days: how many whole days the pace is taken from.
        cost, baseline_cost: US dollars a day.
    """

    days: int
    cost: float
    baseline_cost: float

    @property
    def monthly_cost(self) -> float:
        return self.cost * PROJECTED_DAYS

    @property
    def monthly_baseline_cost(self) -> float:
        return self.baseline_cost * PROJECTED_DAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Payback:
    """Whether running this pays.

    Attributes:
        fixed_cost: the part of the monthly fixed costs that falls on the period, in US dollars.
        spent: that, and what generations cost.
        returned: dollars kept for each dollar spent: (baseline - spent) / spent. Below zero it costs more than it
            saves.
        days: after how many days of a month what is saved has paid that month's fixed costs; None where they are
            never paid.
    """

    fixed_cost: float
    spent: float
    returned: float
    days: float | None


def project(days: Sequence[tuple[dt.date, Sums]], today: dt.date) -> Projection | None:
    """The pace of the last whole days; None where there is none yet.

    Args:
        days: of the period, in order. The first may have begun in its middle, and ``today`` has not ended: neither
            counts. A day without replies counts as zero.
    """
    if not days:
        return None
    last = min(days[-1][0], today - dt.timedelta(days=1))
    begin = max(days[0][0] + dt.timedelta(days=1), last - dt.timedelta(days=_PACE_DAYS - 1))
    count = (last - begin).days + 1
    if count < 1:
        return None
    counted = [sums for day, sums in days if begin <= day <= last]
    return Projection(
        days=count,
        cost=sum(sums.cost for sums in counted) / count,
        baseline_cost=sum(sums.baseline_cost for sums in counted) / count,
    )


def payback(totals: Sums, covered_days: float, fixed_monthly: Mapping[str, float]) -> Payback | None:
    """Whether the period paid; None where no fixed costs are known, or nothing was spent.

    Args:
        covered_days: length of the period, from its first reply to its last.
        fixed_monthly: US dollars a month, by what they are paid for.
    """
    monthly = sum(fixed_monthly.values())
    fixed = monthly * covered_days / DAYS_PER_MONTH
    spent = fixed + totals.cost
    if not monthly or not spent:
        return None
    saved_per_day = totals.saved / covered_days if covered_days else 0.0
    return Payback(
        fixed_cost=fixed,
        spent=spent,
        returned=(totals.baseline_cost - spent) / spent,
        days=monthly / saved_per_day if saved_per_day > 0 else None,
    )
