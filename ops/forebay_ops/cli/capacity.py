"""`forebay capacity`: how much of everything a load takes."""

import re
from pathlib import Path

import click
from rich.console import Console

from ..capacity.costs import read_costs
from ..capacity.sizing import Limits, Load, TierLoad, size
from ..json_files import write_json
from .tables import figures_table

_TIER = re.compile(r"([A-Za-z0-9_-]+)=([\d.]+),([\d.]+),([\d.]+)")


def _tiers(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, TierLoad]:
    found = {}
    for text in given:
        match = _TIER.fullmatch(text)
        if match is None:
            raise click.BadParameter(f"{text!r} is no tier; give NAME=SHARE,TOKENS,TOKENS_PER_S, as small=0.8,150,2500")
        share, tokens, tokens_per_s = map(float, match.groups()[1:])
        if not tokens_per_s:
            raise click.BadParameter(
                f"{text!r}: a worker of 0 tokens a second answers nothing; give what yours reaches"
            )
        found[match[1]] = TierLoad(share, tokens, tokens_per_s)
    if found and abs(sum(tier.share for tier in found.values()) - 1) > 0.01:
        raise click.BadParameter(
            f"the shares come to {sum(tier.share for tier in found.values()):g}; of what is generated they are 1 in all"
        )
    return found


@click.command()
@click.option(
    "--rate",
    "rates",
    multiple=True,
    type=click.FloatRange(min=0, min_open=True),
    default=(100.0, 10_000.0, 1_000_000.0),
    show_default="100, 10,000 and 1,000,000",
    help="Requests a second in the hour that counts; may be repeated.",
)
@click.option(
    "--exact",
    type=click.FloatRange(0, 1),
    default=0.334,
    show_default=True,
    help="Share of them that the exact cache answers. `forebay audit` tells it of your log.",
)
@click.option(
    "--semantic",
    type=click.FloatRange(0, 1),
    default=0.131,
    show_default=True,
    help="Share that is answered by meaning.",
)
@click.option(
    "--tier",
    "tiers",
    multiple=True,
    callback=_tiers,
    metavar="NAME=SHARE,TOKENS,TOKENS_PER_S",
    help="A tier's share of what is generated, tokens of its answers, and tokens a second of one of its workers.",
)
@click.option(
    "--utilisation",
    type=click.FloatRange(0.05, 0.95),
    default=Limits().utilisation,
    show_default=True,
    help="Share of each core and worker that may be busy.",
)
@click.option(
    "--costs",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What a request costs, from `forebay bench costs --out`; else as measured for docs/capacity.md.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="File to write it to as well."
)
def capacity(
    rates: tuple[float, ...],
    exact: float,
    semantic: float,
    tiers: dict[str, TierLoad],
    utilisation: float,
    costs: Path | None,
    json_file: Path | None,
) -> None:
    """Work out slots, partitions, memory, shards and workers for a load, each figure with its arithmetic.

    From the processor time and bytes that one request was measured to cost. What is above the rate that a machine was
    measured at assumes that cost stays the same.

    \b
      forebay capacity --rate 10000 --exact 0.3 --semantic 0.1
      forebay capacity --rate 500 --tier small=0.8,150,2500 --tier large=0.2,400,900
      forebay bench costs --out costs.json && forebay capacity --costs costs.json
    """  # fmt: skip
    if exact + semantic > 1:
        raise click.UsageError(
            f"--exact {exact:g} and --semantic {semantic:g} are shares of the same requests: at most 1"
        )
    measured = read_costs(costs)
    console = Console()
    console.print(f"A request's costs: {measured.source}.", highlight=False)
    found = {}
    for rate in rates:
        load = Load(rate_per_s=rate, exact=exact, semantic=semantic, tiers=tiers)
        found[f"{rate:g}"] = rows = size(load, measured, Limits(utilisation=utilisation))
        table = figures_table(f"{rate:,.12g} requests a second", "")
        table.add_column("how", overflow="fold")
        for row in rows:
            table.add_row(row.name, row.value, row.how)
        console.print()
        console.print(table, highlight=False)
    if json_file is not None:
        write_json(json_file, found)
