"""A recomputed claim in words: its assumptions, the arithmetic line by line, and what of it follows."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from .scenarios import ByTier, Claim, Inputs, Recomputed, close


class Finding(StrEnum):
    """What a line of the verdict says of the claim."""

    FOLLOWS = "follows"
    DOES_NOT = "does not follow"
    OPEN = "not stated"


@dataclass(frozen=True, slots=True)
class Assumption:
    """One input: what it is, and who says so."""

    what: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the arithmetic."""

    what: str
    how: str
    result: str


@dataclass(frozen=True, slots=True)
class Judged:
    """One part of the claim and what is found of it."""

    finding: Finding
    text: str


def percent(share: float) -> str:
    """With one decimal, where it is not a whole number of percent."""
    return f"{share:.1%}".removesuffix("%").removesuffix(".0") + " %"


def usd(amount: float) -> str:
    """Whole dollars from 100 on, below with the digits that small prices need."""
    sign = "-" if amount < 0 else ""
    return f"{sign}${abs(amount):,.0f}" if abs(amount) >= 100 else f"{sign}${_price(abs(amount))}"


def shares(split: ByTier) -> str:
    return ", ".join(f"{tier} {percent(share)}" for tier, share in split.items())


def assumptions(claim: Claim, inputs: Inputs, found: Recomputed) -> Iterator[Assumption]:
    """What the arithmetic rests on; ``inputs`` are the claim's with the options over them."""
    stated = claim.inputs

    def source(name: str) -> str:
        value = getattr(inputs, name)
        return "not stated" if value is None else "the claim" if value == getattr(stated, name) else "an option"

    queries = f"{found.inputs.queries:,.0f}" if found.inputs.queries else "-"
    yield Assumption("queries a month", queries, "solved for" if found.queries_solved else source("queries"))
    yield Assumption("hits", "-" if inputs.hit_rate is None else percent(inputs.hit_rate), source("hit_rate"))
    yield Assumption("tiers", ", ".join(f"{tier}: {model}" for tier, model in claim.models.items()), "the claim")
    yield Assumption("misses", shares(inputs.split) if inputs.split else "-", source("split"))
    prices = ", ".join(f"{tier} ${_price(price)}" for tier, price in (inputs.prices or {}).items())
    yield Assumption("price of a query", prices or "-", source("prices"))
    fixed = "an option" if inputs.fixed_usd else "the claim names none"
    yield Assumption("fixed costs a month", usd(inputs.fixed_usd), fixed)
    yield Assumption("before", "every query went to the dearest tier", "ours, as replies say it")
    yield Assumption("a hit", "costs nothing by itself; every query of a tier costs the same", "ours")


def arithmetic(claim: Claim, found: Recomputed) -> Iterator[Line]:
    """The lines that the inputs suffice for."""
    inputs, before, after = found.inputs, claim.before_usd, claim.after_usd
    yield Line("saving claimed", f"1 - {after:,.0f} / {before:,.0f}", percent(claim.saving))
    if inputs.queries and found.query_before_usd and not found.queries_solved:
        how = f"{before:,.0f} / {inputs.queries:,.0f}"
        yield Line("a query before", how, usd(found.query_before_usd))
    if inputs.queries and inputs.prices and inputs.largest_usd:
        dearest = max(inputs.prices.values())
        yield Line("all at the dearest tier", f"{inputs.queries:,.0f} x {_price(dearest)}", usd(inputs.largest_usd))
    if inputs.split and inputs.prices and inputs.miss_usd is not None:
        terms = (f"{percent(share)} x {_price(inputs.prices[tier])}" for tier, share in inputs.split.items())
        yield Line("a miss, on average", " + ".join(terms), usd(inputs.miss_usd))
    yield from _misses(claim, found)
    if found.left_by_hits_usd is not None and found.needed_miss_share is not None and inputs.hit_rate is not None:
        left = found.left_by_hits_usd
        yield Line("left after the hits", f"{before:,.0f} x (1 - {percent(inputs.hit_rate)})", usd(left))
        how = f"{_less(after, inputs.fixed_usd)} / {left:,.0f}"
        yield Line("what a miss may cost, of a query before", how, percent(found.needed_miss_share))


def _misses(claim: Claim, found: Recomputed) -> Iterator[Line]:
    inputs = found.inputs
    if not inputs.queries or not inputs.miss_usd or found.routed_usd is None or found.needed_hit_rate is None:
        return
    fixed = f" + {inputs.fixed_usd:,.0f}" if inputs.fixed_usd else ""
    all_missed = f"{inputs.queries:,.0f} x {_price(inputs.miss_usd)}"
    yield Line("routed, without a hit", f"{all_missed}{fixed}", usd(found.routed_usd))
    paid = (claim.after_usd - inputs.fixed_usd) / inputs.miss_usd
    how = f"{_less(claim.after_usd, inputs.fixed_usd)} / {_price(inputs.miss_usd)}"
    yield Line(f"misses that {usd(claim.after_usd)} pays for", how, f"{paid:,.0f}")
    hits = "none" if found.needed_hit_rate <= 0 else percent(found.needed_hit_rate)
    yield Line("hits needed", f"1 - {paid:,.0f} / {inputs.queries:,.0f}", hits)
    if found.after_usd is not None and inputs.hit_rate is not None:
        how = f"{all_missed} x (1 - {percent(inputs.hit_rate)}){fixed}"
        yield Line(f"bill at {percent(inputs.hit_rate)} hits", how, usd(found.after_usd))


def verdict(claim: Claim, found: Recomputed) -> Iterator[Judged]:
    """Part by part, whether the claim follows from its inputs."""
    yield from _start(claim, found)
    yield from _routing(claim, found)
    if found.after_usd is not None:
        yield _end(claim, found, found.after_usd)
    elif found.needed_hit_rate is not None:
        yield _solved_hits(claim, found.needed_hit_rate)
    elif found.needed_miss_share is not None and found.most_at_largest is not None:
        yield from _solved_split(claim, found, found.needed_miss_share, found.most_at_largest)


def _start(claim: Claim, found: Recomputed) -> Iterator[Judged]:
    largest, query = found.inputs.largest_usd, found.query_before_usd
    if largest is None or query is None or found.queries_solved:
        return
    if close(largest, claim.before_usd):
        yield Judged(Finding.FOLLOWS, f"The start: all queries at the dearest tier come to {usd(largest)}.")
        return
    text = (
        f"The start: all queries at the dearest tier would be {usd(largest)}, {largest / claim.before_usd:.1f} times"
        f" that. {usd(claim.before_usd)} is {usd(query)} a query"
    )
    mixes = (f"{percent(mix.share)} {mix.dearer} and {percent(1 - mix.share)} {mix.cheaper}" for mix in found.mixes)
    if found.mixes:
        yield Judged(Finding.OPEN, f"{text}, as {', or '.join(mixes)} cost. The claim names no mix.")
    else:
        yield Judged(Finding.DOES_NOT, f"{text}, which no mix of the tiers costs.")


def _routing(claim: Claim, found: Recomputed) -> Iterator[Judged]:
    routed, even = found.routed_usd, found.break_even_hit_rate
    if routed is None or even is None:
        return
    if routed <= claim.before_usd:
        saved = 1 - routed / claim.before_usd
        text = f"Routing: without a hit the split brings the bill to {usd(routed)}, {percent(saved)} less."
        yield Judged(Finding.FOLLOWS, text)
        return
    yield Judged(
        Finding.DOES_NOT,
        f"Routing: without a hit the split costs {usd(routed)}, {usd(routed - claim.before_usd)} more than the start."
        f" Against that start it saves nothing before {percent(even)} are hits.",
    )


def _end(claim: Claim, found: Recomputed, after: float) -> Judged:
    at = f"at {percent(found.inputs.hit_rate or 0)} hits the bill is {usd(after)}"
    if close(after, claim.after_usd):
        return Judged(Finding.FOLLOWS, f"The end: {at}.")
    off = after - claim.after_usd
    if off < 0:
        return Judged(Finding.FOLLOWS, f"The end: {at}, {usd(-off)} less than claimed.")
    text = f"The end: {at}, {usd(off)} more than claimed."
    if found.needed_hit_rate is not None:
        needed = found.needed_hit_rate
        text += f" {percent(needed)} hits would be needed." if needed < 1 else " No hit rate brings it there."
    return Judged(Finding.DOES_NOT, text)


def _solved_hits(claim: Claim, needed: float) -> Judged:
    if needed >= 1:
        text = f"The end: the fixed costs alone are {usd(claim.after_usd)} or more, so no hit rate brings it there."
        return Judged(Finding.DOES_NOT, text)
    if needed <= 0:
        return Judged(Finding.FOLLOWS, f"The end: the split alone brings the bill to {usd(claim.after_usd)} or less.")
    text = f"The end: it takes {percent(needed)} hits. The claim names no hit rate, so this is solved for, not checked."
    return Judged(Finding.OPEN, text)


def _solved_split(claim: Claim, found: Recomputed, miss_share: float, most: float) -> Iterator[Judged]:
    inputs, left = found.inputs, found.left_by_hits_usd or 0.0
    saved = percent(inputs.hit_rate or 0)
    yield Judged(
        Finding.FOLLOWS,
        f"Hits: {saved} of the queries save {saved}, {usd(claim.before_usd - left)}. The other"
        f" {usd(left - claim.after_usd)} have to come from smaller models.",
    )
    if miss_share <= 0 or most < 0:
        text = f"The end: not even with every miss at the cheapest tier is the bill {usd(claim.after_usd)}."
        yield Judged(Finding.DOES_NOT, text)
        return
    *cheaper, dearest = claim.models
    others = "at the cheapest tier" if inputs.prices else "free"
    yield Judged(
        Finding.OPEN,
        f"The end: a miss may cost {percent(miss_share)} of what a query cost before. So at most {percent(most)} of the"
        f" misses may go to the {dearest} tier, {percent(most * (1 - (inputs.hit_rate or 0)))} of all queries, even if"
        f" all others were {others}.",
    )
    if inputs.prices is None:
        terms = (f"{tier} share x {tier} price / {dearest} price" for tier in reversed(cheaper))
        yield Judged(
            Finding.OPEN,
            f"Neither split nor prices are stated, so what is left is a condition: {dearest} share +"
            f" {' + '.join(terms)} = {percent(miss_share)}.",
        )


def _less(amount: float, fixed_usd: float) -> str:
    return f"({amount:,.0f} - {fixed_usd:,.0f})" if fixed_usd else f"{amount:,.0f}"


def _price(price: float) -> str:
    """Four significant digits, no exponent."""
    text = f"{price:.4g}"
    return text if "e" not in text else f"{price:.12f}".rstrip("0")
