"""Two published claims of savings, and what follows from the inputs that they state. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

ByTier = Mapping[str, float]

CLOSE = 0.01
"""Figures that differ by less than this share are equal: the claims are rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a month's bill follows from; None where nobody says.

    A hit costs nothing by itself, and every query of a tier the same.

    Attributes:
        queries: a month, above 0.
        hit_rate: share of the queries that a cache answers, in [0, 1).
        split: share of the misses by tier, in [0, 1] and 1 in sum; each tier has a price where prices are known.
        prices: US dollars a query by tier.
        fixed_usd: US dollars a month besides.
    """

    queries: float | None = None
    hit_rate: float | None = None
    split: ByTier | None = None
    prices: ByTier | None = None
    fixed_usd: float = 0.0

    @property
    def miss_usd(self) -> float | None:
        """Mean price of a miss."""
        if self.split is None or self.prices is None:
            return None
        return sum(share * self.prices[tier] for tier, share in self.split.items())

    @property
    def largest_usd(self) -> float | None:
        """All queries at the dearest price, nothing cached."""
        if self.queries is None or self.prices is None:
            return None
        return self.queries * max(self.prices.values())

    def bill_usd(self, hit_rate: float) -> float | None:
        """The month's bill with a share of hits."""
        if self.queries is None or self.miss_usd is None:
            return None
        return self.queries * (1 - hit_rate) * self.miss_usd + self.fixed_usd

    def hit_rate_for(self, bill_usd: float) -> float | None:
        """The hit rate that brings the bill there: below 0 where none is needed, above 1 where none is enough."""
        if self.queries is None or not self.miss_usd:
            return None
        return 1 - (bill_usd - self.fixed_usd) / (self.queries * self.miss_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A published saving.

    Attributes:
        says: the claim in a sentence.
        before_usd, after_usd: the month's bills that it names.
        models: what its tiers are, the dearest last.
        inputs: what it states of the way there.
    """

    name: str
    says: str
    before_usd: float
    after_usd: float
    models: Mapping[str, str]
    inputs: Inputs

    @property
    def saving(self) -> float:
        return 1 - self.after_usd / self.before_usd


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            name="47k",
            says="A month of $47,000 becomes $2,800, 94 % less, with caches and three sizes of Llama.",
            before_usd=47_000,
            after_usd=2_800,
            models={"small": "8B", "medium": "70B", "large": "405B"},
            inputs=Inputs(
                queries=45_000_000,
                split={"small": 0.62, "medium": 0.28, "large": 0.10},
                prices={"small": 0.0001, "medium": 0.001, "large": 0.01},
            ),
        ),
        Claim(
            name="62k",
            says="A month of $62,400 becomes $4,850, with 35 % hits at a similarity of 0.92 and a local 7B.",
            before_usd=62_400,
            after_usd=4_850,
            models={"small": "local 7B", "medium": "a middle API", "large": "a frontier API"},
            inputs=Inputs(hit_rate=0.35),
        ),
    )
}
"""By name."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Two tiers that come to a given mean price: ``share`` of the dearer one, the rest of the cheaper."""

    dearer: str
    cheaper: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """What follows from a claim's inputs; None where they do not suffice.

    Attributes:
        inputs: with the number of queries solved for where nobody says it: as many as the claimed bill paid for at the
            dearest price.
        queries_solved: whether it was.
        query_before_usd: what a query cost on average before.
        mixes: which two tiers, unrouted, would have cost that.
        routed_usd: the bill with the split and without a hit.
        break_even_hit_rate: from where on the bill is below the claimed one from before; may be below 0.
        needed_hit_rate: the one that leads to the claimed bill; may be outside [0, 1].
        after_usd: the bill at the hit rate of the inputs.
        left_by_hits_usd: the claimed bill from before, without the hits, every miss as dear as a query was.
        needed_miss_share: what a miss may then cost for the claimed bill, as a share of what a query cost before.
        most_at_largest: the greatest share of misses that may then go to the dearest tier, with all others at the
            cheapest, or at nothing where prices are not known; below 0 where that does not suffice.
    """

    inputs: Inputs
    queries_solved: bool
    query_before_usd: float | None
    mixes: tuple[Mix, ...]
    routed_usd: float | None
    break_even_hit_rate: float | None
    needed_hit_rate: float | None
    after_usd: float | None
    left_by_hits_usd: float | None
    needed_miss_share: float | None
    most_at_largest: float | None


def recompute(claim: Claim, inputs: Inputs) -> Recomputed:
    """What follows from ``inputs``, the claim's own or changed ones, for the bills that the claim names."""
    solved = inputs.queries is None and inputs.prices is not None
    if inputs.queries is None and inputs.prices is not None:
        inputs = replace(inputs, queries=claim.before_usd / max(inputs.prices.values()))
    query_usd = claim.before_usd / inputs.queries if inputs.queries else None
    left_usd = None if inputs.hit_rate is None else claim.before_usd * (1 - inputs.hit_rate)
    miss_share = (claim.after_usd - inputs.fixed_usd) / left_usd if left_usd else None
    return Recomputed(
        inputs=inputs,
        queries_solved=solved,
        query_before_usd=query_usd,
        mixes=tuple(_mixes(query_usd, inputs.prices)) if query_usd and inputs.prices else (),
        routed_usd=inputs.bill_usd(0),
        break_even_hit_rate=inputs.hit_rate_for(claim.before_usd),
        needed_hit_rate=inputs.hit_rate_for(claim.after_usd),
        after_usd=None if inputs.hit_rate is None else inputs.bill_usd(inputs.hit_rate),
        left_by_hits_usd=left_usd,
        needed_miss_share=miss_share,
        most_at_largest=None if miss_share is None else _most_at_largest(miss_share, query_usd, inputs.prices),
    )


def close(one: float, other: float) -> bool:
    """Whether two figures are equal within ``CLOSE``."""
    return abs(one - other) <= CLOSE * max(abs(one), abs(other))


def _mixes(mean_usd: float, prices: ByTier) -> Iterator[Mix]:
    by_price = sorted(prices, key=lambda tier: prices[tier])
    for cheaper, dearer in combinations(by_price, 2):
        if prices[cheaper] <= mean_usd <= prices[dearer] and prices[cheaper] < prices[dearer]:
            yield Mix(dearer, cheaper, (mean_usd - prices[cheaper]) / (prices[dearer] - prices[cheaper]))


def _most_at_largest(miss_share: float, query_usd: float | None, prices: ByTier | None) -> float:
    if prices is None or query_usd is None:
        return min(1.0, miss_share)  # before, every query went to the dearest tier; the others are as if free
    least, most = min(prices.values()), max(prices.values())
    if least == most:
        return 1.0 if miss_share * query_usd >= most else -1.0
    return min(1.0, (miss_share * query_usd - least) / (most - least))
