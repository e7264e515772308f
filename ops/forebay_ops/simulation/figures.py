"""The figures of some requests: how they were answered, what that cost, and how right it was."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What became of some requests. Amounts are US dollars.

    Attributes:
        exact, semantic, joined: how many were given an answer of another, by kind.
        by_tier: how many were generated, by the tier to which the router sent them.
        cost_by_tier: what was paid for these.
        cost: what was paid in all.
        baseline_cost: what the largest tier would have cost.
        labelled: requests of which somebody said what they mean, or whose answer is right.
        wrong: of these, how many were given the answer to another meaning.
        lost: of these, right answers fewer than the largest tier would have given; below zero where they are more.
    """

    requests: int = 0
    exact: int = 0
    semantic: int = 0
    joined: int = 0
    by_tier: Mapping[str, int] = field(default_factory=dict)
    cost_by_tier: Mapping[str, float] = field(default_factory=dict)
    cost: float = 0.0
    baseline_cost: float = 0.0
    labelled: int = 0
    wrong: int = 0
    lost: float = 0.0

    @property
    def reused(self) -> int:
        return self.exact + self.semantic + self.joined

    @property
    def generated(self) -> int:
        return sum(self.by_tier.values())

    @property
    def hit_rate(self) -> float:
        """Share of all requests that were given the answer of another, in [0, 1]."""
        return self.share(self.reused)

    @property
    def saved_share(self) -> float:
        """Of the baseline, at most 1."""
        return 1 - self.cost / self.baseline_cost if self.baseline_cost else 0.0

    @property
    def cost_per_1k(self) -> float:
        """Of a thousand requests."""
        return 1000 * self.share(self.cost)

    @property
    def wrong_share(self) -> float | None:
        """Of the labelled requests, in [0, 1]; None where none is."""
        return self.wrong / self.labelled if self.labelled else None

    @property
    def loss(self) -> float | None:
        """Quality lost against the largest tier, as a share of the labelled requests; None where none is."""
        return self.lost / self.labelled if self.labelled else None

    def share(self, of: float) -> float:
        """Of all requests."""
        return of / self.requests if self.requests else 0.0

    def tier_share(self, tier: str) -> float:
        """Of those generated."""
        return self.by_tier.get(tier, 0) / self.generated if self.generated else 0.0


def added(some: Iterable[Figures]) -> Figures:
    """The figures of all of them together."""
    some = list(some)
    tiers = dict.fromkeys(tier for each in some for tier in each.by_tier)
    sums: dict[str, Any] = {}
    for name in (each.name for each in fields(Figures)):
        values = [getattr(each, name) for each in some]
        by_tier = name in ("by_tier", "cost_by_tier")
        sums[name] = {tier: sum(value.get(tier, 0) for value in values) for tier in tiers} if by_tier else sum(values)
    return Figures(**sums)
