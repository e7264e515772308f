"""`forebay plan scenario`: published claims of savings, recomputed."""

from collections.abc import Callable
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..planning.explained import Finding, arithmetic, assumptions, percent, usd, verdict
from ..planning.measured import Measured, Ours, prices_problem, read_measured, split_problem, with_measured
from ..planning.scenarios import CLAIMS, ByTier, Claim, Inputs, Recomputed, recompute

_COLOURS = {Finding.FOLLOWS: "green", Finding.DOES_NOT: "red", Finding.OPEN: "yellow"}


class _ByTier(click.ParamType):
    """Figures by tier: small=62,medium=28,large=10."""

    name = "TIER=FIGURE,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        if isinstance(value, dict):
            return value
        figures: dict[str, float] = {}
        for part in str(value).split(","):
            tier, _, figure = part.strip().partition("=")
            try:
                figures[tier] = float(figure)
            except ValueError:
                self.fail(f"{part!r} is no tier and figure; give them such as small=62,medium=28,large=10", param, ctx)
        return figures


def _split(_: click.Context, __: click.Parameter, value: dict[str, float] | None) -> dict[str, float] | None:
    if value is None:
        return None
    split = {tier: figure / 100 for tier, figure in value.items()}
    if problem := split_problem(split):
        raise click.BadParameter(problem)
    return split


def _prices(_: click.Context, __: click.Parameter, value: dict[str, float] | None) -> dict[str, float] | None:
    if value is not None and (problem := prices_problem(value)):
        raise click.BadParameter(problem)
    return value


def _measured(_: click.Context, __: click.Parameter, value: BinaryIO | None) -> Measured | None:
    return read_measured(value.read()) if value else None


@click.command()
@click.argument("name", type=click.Choice(list(CLAIMS)), required=False)
@click.option("--queries", type=click.FloatRange(min=0, min_open=True), help="Queries a month.")
@click.option(
    "--hit-rate", type=click.FloatRange(0, 1, max_open=True), help="Share of them that a cache answers: 0.35."
)
@click.option(
    "--split", type=_ByTier(), callback=_split, help="Misses by tier in percent: small=62,medium=28,large=10."
)
@click.option(
    "--price", "prices", type=_ByTier(), callback=_prices, help="US dollars a query by tier: small=0.0001,..."
)
@click.option("--fixed", "fixed_usd", type=click.FloatRange(min=0), help="US dollars a month besides.")
@click.option("--measured", type=click.File("rb"), callback=_measured, help="Measured rates, as JSON; see above.")
def scenario(name: str | None, measured: Measured | None, **changed: Any) -> None:
    """Recompute two published claims of savings, and say what of them follows.

    NAME is one of 47k (a month of $47,000 becomes $2,800) and 62k ($62,400 becomes $4,850); without it both are
    shown. Options replace what a claim states, or state what it leaves open; what nobody states is solved for where
    the rest suffices.

    \b
      forebay plan scenario
      forebay plan scenario 47k --hit-rate 0.35 --fixed 500
      forebay plan scenario 62k --price small=0.0002,medium=0.002,large=0.02 --split small=80,medium=15,large=5

    --measured adds what the month would be at rates measured on labelled queries, and what makes the difference. The
    file is one JSON object; all shares are between 0 and 1, and without prices those of the scenario hold:

    \b
      {"source": "what was measured, on what, when",
       "hit_rate": share of all queries that a cache answered,
       "wrong_share": share of all queries that a cache answered wrongly,
       "split": {"small": share of the misses, "medium": ..., "large": ...},
       "price_per_query": {"small": US dollars for a miss, "medium": ..., "large": ...}}
    """
    console = Console()
    for claim in [CLAIMS[name]] if name else CLAIMS.values():
        inputs = _inputs(claim, changed)
        _show(console, claim, inputs, recompute(claim, inputs), measured)


def _inputs(claim: Claim, changed: dict[str, Any]) -> Inputs:
    stated = {field: getattr(claim.inputs, field) for field in Inputs.__dataclass_fields__}
    inputs = Inputs(**stated | {field: value for field, value in changed.items() if value is not None})
    if inputs.split and inputs.prices and (missing := inputs.split.keys() - inputs.prices.keys()):
        raise click.UsageError(
            f"--split: {', '.join(sorted(missing))} has no price in {claim.name}; add it to --price, or name the tiers"
            f" {', '.join(inputs.prices)}"
        )
    return inputs


def _show(console: Console, claim: Claim, inputs: Inputs, found: Recomputed, measured: Measured | None) -> None:
    console.print(Text(f"\n{claim.name}: {claim.says}", style="bold"))
    console.print()
    assumed = _table("assumed", "", "who says so")
    for item in assumptions(claim, inputs, found):
        style = "yellow" if item.source == "not stated" else ""
        assumed.add_row(item.what, item.value, Text(item.source, style=style))
    console.print(assumed)
    console.print()
    lines = _table("arithmetic", "", "")
    lines.columns[-1].justify = "right"
    for line in arithmetic(claim, found):
        lines.add_row(line.what, line.how, line.result)
    console.print(lines)
    console.print()
    judged = _table("what of it follows", "")
    for part in verdict(claim, found):
        judged.add_row(Text(part.finding, style=_COLOURS[part.finding]), part.text)
    console.print(judged)
    if measured is not None:
        _show_measured(console, claim, found, measured, with_measured(claim, found, measured))
    console.print()


def _show_measured(console: Console, claim: Claim, found: Recomputed, measured: Measured, ours: Ours) -> None:
    stated, solved = claim.inputs, found.inputs
    hits = found.needed_hit_rate if solved.hit_rate is None else solved.hit_rate
    before = solved.largest_usd or claim.before_usd
    after = claim.after_usd if found.after_usd is None else found.after_usd
    table = _table("a month", "claimed", "recomputed", "measured")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [
        ("queries", _or_dash(stated.queries, _count), _or_dash(solved.queries, _count), _count(ours.queries)),
        ("hits", _or_dash(stated.hit_rate, percent), _or_dash(hits, percent), percent(measured.hit_rate)),
        *(
            (f"misses at {tier}", _share(stated.split, tier), _share(solved.split, tier), percent(share))
            for tier, share in measured.split.items()
        ),
        ("a miss", _or_dash(stated.miss_usd, usd), _or_dash(solved.miss_usd, usd), usd(ours.miss_usd)),
        ("before", usd(claim.before_usd), usd(before), usd(ours.before_usd)),
        ("after", usd(claim.after_usd), usd(after), usd(ours.after_usd)),
        ("saved", percent(claim.saving), percent(1 - after / before), percent(ours.saving)),
        ("answered wrongly by reuse", "-", "-", f"{_count(ours.wrong)} ({percent(measured.wrong_share)})"),
    ]
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)
    console.print(Text(f"measured: {measured.source}"))
    console.print()
    steps = _table(f"from {usd(claim.after_usd)} to {usd(ours.after_usd)}", "")
    steps.columns[-1].justify = "right"
    for step in ours.steps:
        steps.add_row(step.what, f"{'+' if step.adds_usd >= 0 else ''}{usd(step.adds_usd)}")
    console.print(steps)


def _share(split: ByTier | None, tier: str) -> str:
    return "-" if split is None or tier not in split else percent(split[tier])


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)


def _table(*titles: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title, overflow="fold")
    return table
