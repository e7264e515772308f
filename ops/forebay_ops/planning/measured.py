"""Rates that were measured on labelled queries, and what a scenario comes to with them in place of a claim's. Pure."""

from dataclasses import dataclass, replace

import msgspec
from forebay_schemas.errors import ForebayError

from .scenarios import ByTier, Claim, Recomputed

_ROUNDING = 0.001
"""Shares that were written with three digits need not add up to exactly 1."""


class MeasuredError(ForebayError):
    """A file of measured rates cannot be used; the message names the field, the problem and the mend."""


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a measurement found; as JSON the shape of ``--measured``.

    Attributes:
        source: what was measured, on what, when: it is printed beside the figures.
        hit_rate: share of all queries that a cache answered, in [0, 1).
        wrong_share: share of all queries that a cache answered wrongly, by the labels; at most ``hit_rate``.
        split: share of the misses by tier, 1 in sum.
        price_per_query: mean US dollars of a miss by tier; absent: the scenario's prices.
    """

    source: str
    hit_rate: float
    wrong_share: float
    split: dict[str, float]
    price_per_query: dict[str, float] | None = None


def read_measured(text: bytes) -> Measured:
    """Read measured rates from JSON.

    Raises:
        MeasuredError: it is no JSON of that shape, or a figure is out of its range.
    """
    try:
        measured = msgspec.json.decode(text, type=Measured)
    except msgspec.MsgspecError as error:
        problem = f"the measured rates cannot be read ({error}); `forebay plan scenario -h` shows their shape"
        raise MeasuredError(problem) from None
    if not 0 <= measured.hit_rate < 1:
        raise MeasuredError(f"hit_rate: {measured.hit_rate} is no share of at least 0 and below 1; 35 % is 0.35")
    if not 0 <= measured.wrong_share <= measured.hit_rate:
        raise MeasuredError(
            f"wrong_share: {measured.wrong_share} is not between 0 and hit_rate; give wrong hits / all queries"
        )
    if problem := split_problem(measured.split):
        raise MeasuredError(f"split: {problem}")
    if measured.price_per_query is not None and (problem := prices_problem(measured.price_per_query)):
        raise MeasuredError(f"price_per_query: {problem}")
    return measured


def split_problem(split: ByTier) -> str | None:
    """What keeps the shares from being a split, and the mend."""
    for tier, share in split.items():
        if not 0 <= share <= 1:
            return f"{tier} has {share:.6g}; give each tier its share of the misses"
    total = sum(split.values())
    return None if abs(total - 1) <= _ROUNDING else f"its shares add up to {total:.1%}; they have to be 100 %"


def prices_problem(prices: ByTier) -> str | None:
    """What keeps the figures from being prices, and the mend."""
    for tier, usd in prices.items():
        if usd < 0:
            return f"{tier} has {usd:.6g}; a price is at least 0"
    return None if any(prices.values()) else "all are 0; the dearest tier needs a price"


@dataclass(frozen=True, slots=True)
class Step:
    """What one of the differences adds to the bill, the ones before it already made."""

    what: str
    adds_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """A scenario with measured rates.

    Attributes:
        miss_usd: mean price of a miss.
        before_usd: all queries at the dearest price.
        after_usd: the bill.
        wrong: queries a month that a cache would answer wrongly.
        steps: from the claimed bill to this one; their sum is the difference.
    """

    queries: float
    miss_usd: float
    before_usd: float
    after_usd: float
    wrong: float
    steps: tuple[Step, ...]

    @property
    def saving(self) -> float:
        return 1 - self.after_usd / self.before_usd


def with_measured(claim: Claim, found: Recomputed, measured: Measured) -> Ours:
    """The scenario's month at the measured rates.

    Raises:
        MeasuredError: nobody says what a tier of the measurement costs.
    """
    prices = measured.price_per_query or found.inputs.prices
    if prices is None:
        raise MeasuredError(
            f"price_per_query: is missing, and {claim.name} names no prices; give them in the file or with --price"
        )
    if missing := measured.split.keys() - prices.keys():
        raise MeasuredError(f"split: {', '.join(sorted(missing))} has no price; name the tiers as the prices do")
    queries = found.inputs.queries or claim.before_usd / max(prices.values())
    ours = replace(found.inputs, queries=queries, hit_rate=measured.hit_rate, split=measured.split, prices=prices)
    miss_usd, before_usd = ours.miss_usd, ours.largest_usd
    assert miss_usd is not None
    assert before_usd is not None
    after_usd = queries * (1 - measured.hit_rate) * miss_usd + ours.fixed_usd
    return Ours(
        queries=queries,
        miss_usd=miss_usd,
        before_usd=before_usd,
        after_usd=after_usd,
        wrong=queries * measured.wrong_share,
        steps=tuple(_steps(claim, found, measured, after_usd)),
    )


def _steps(claim: Claim, found: Recomputed, measured: Measured, after_usd: float) -> list[Step]:
    """The claim's inputs replaced by the measured ones, one after the other; silent ones go together, as the rest."""
    inputs, bill_usd, steps = found.inputs, claim.after_usd, list[Step]()
    hit_rate = found.needed_hit_rate if inputs.hit_rate is None else inputs.hit_rate
    if hit_rate is None or hit_rate >= 1:
        return [Step("all of it", after_usd - bill_usd)]
    if found.after_usd is not None:
        steps.append(Step("what does not follow from the claim's own inputs", found.after_usd - bill_usd))
        bill_usd = found.after_usd
    misses_usd = (bill_usd - inputs.fixed_usd) * (1 - measured.hit_rate) / (1 - hit_rate)
    steps.append(Step("the hit rate", misses_usd + inputs.fixed_usd - bill_usd))
    bill_usd = misses_usd + inputs.fixed_usd
    if inputs.prices is not None and measured.split.keys() <= inputs.prices.keys():
        routed = replace(inputs, split=measured.split).bill_usd(measured.hit_rate)
        assert routed is not None
        steps.append(Step("the split of the misses", routed - bill_usd))
        bill_usd = routed
        if measured.price_per_query is not None:
            steps.append(Step("the prices", after_usd - bill_usd))
        return steps
    return [*steps, Step("the split of the misses and their prices", after_usd - bill_usd)]
