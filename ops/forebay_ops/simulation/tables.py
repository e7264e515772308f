"""The tables of a simulation, as text: the shell and the page show the same."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from scipy.stats import binomtest

from ..figures import money
from ..reporting.tables import Table
from .figures import Figures, added
from .outcome import PRESENT, RECORDED, WHAT_IF, Outcome
from .sweep import Point, Reuse, Setting

_MOST_CATEGORIES = 20


@dataclass(frozen=True, slots=True)
class _Line:
    """One figure of every side; a share in [0, 1], or an amount of US dollars."""

    what: str
    value: Callable[[Figures], float | None]
    is_share: bool = True

    def text(self, figures: Figures) -> str:
        value = self.value(figures)
        return "-" if value is None else _percent(value) if self.is_share else money(value)

    def change(self, before: Figures, after: Figures) -> str:
        one, other = self.value(before), self.value(after)
        if one is None or other is None:
            return "-"
        if self.is_share:
            return f"{100 * (other - one):+.2f} points"
        return f"{other / one - 1:+.1%}" if one else "-"


def tables(outcome: Outcome) -> list[Table]:
    """All of them, in the order in which they are read; those without rows are left out."""
    every = [_sides(outcome), _categories(outcome), *_recommended(outcome)]
    return [table for table in every if table.rows]


def setting_text(setting: Setting) -> str:
    """What is set, in few words."""
    reuse = reuse_text(setting.reuse)
    bounds = ", ".join(f"{bound:g}" for bound in setting.bounds)
    return f"{reuse}, {f'all to {setting.tier}' if setting.tier else f'tiers up to {bounds}'}"


def reuse_text(reuse: Reuse) -> str:
    """How answers are reused, in few words."""
    if reuse.policy == "fixed":
        return f"similarity {reuse.similarity:g}"
    if reuse.policy == "bounded":
        return f"delta {reuse.delta:g}"
    return "equal requests only" if reuse.policy == "exact" else reuse.policy


def _sides(outcome: Outcome) -> Table:
    totals = outcome.totals
    sides = list(totals)
    lines = list(_lines(totals.values()))
    rows = [("requests", *(f"{figures.requests:,}" for figures in totals.values()))]
    rows += [(line.what, *(line.text(figures) for figures in totals.values())) for line in lines]
    if len(sides) > 1:
        before, after = totals[sides[-2]], totals[sides[-1]]
        rows = [
            (*row, change)
            for row, change in zip(rows, ["", *(line.change(before, after) for line in lines)], strict=True)
        ]
        sides.append(f"{sides[-2]} to {sides[-1]}")
    return Table("sides", "All requests", ("", *sides), rows)


def _lines(totals: Iterable[Figures]) -> Iterator[_Line]:
    yield _Line("given an equal request's answer", lambda figures: figures.share(figures.exact))
    yield _Line("given a similar question's", lambda figures: figures.share(figures.semantic))
    yield _Line("joined one in flight", lambda figures: figures.share(figures.joined))
    yield _Line("hit rate, these together", lambda figures: figures.hit_rate)
    for tier in dict.fromkeys(tier for figures in totals for tier in figures.by_tier):
        yield _Line(f"of those generated, sent to {tier}", lambda figures, tier=tier: figures.tier_share(tier))
    yield _Line("cost", lambda figures: figures.cost, is_share=False)
    yield _Line("largest tier", lambda figures: figures.baseline_cost, is_share=False)
    yield _Line("saved", lambda figures: figures.saved_share)
    yield _Line("a thousand requests", lambda figures: figures.cost_per_1k, is_share=False)
    if any(figures.labelled for figures in totals):
        yield _Line("given the answer to another question", lambda figures: figures.wrong_share)
        yield _Line("quality lost against the largest tier", lambda figures: figures.loss)


def _categories(outcome: Outcome) -> Table:
    """Empty for a single category, which the totals show."""
    sides = [side for side in outcome.sides if side != RECORDED]
    by_cost = sorted(outcome.sides[PRESENT].items(), key=lambda item: -item[1].cost)
    shown = by_cost[:_MOST_CATEGORIES] if len(by_cost) > 1 else []
    rows = [
        (
            name,
            f"{figures.requests:,}",
            *(
                text
                for side in sides
                for here in [outcome.sides[side][name]]
                for text in (_percent(here.hit_rate), money(here.cost), _or_dash(here.loss))
            ),
        )
        for name, figures in shown
    ]
    heads = tuple(f"{what}, {side}" for side in sides for what in ("hits", "cost", "quality lost"))
    return Table("categories", "Categories, the dearest first", ("", "requests", *heads), rows)


def _recommended(outcome: Outcome) -> Iterator[Table]:
    present = WHAT_IF if WHAT_IF in outcome.sides else PRESENT
    rows: list[tuple[str, ...]] = []
    for front in outcome.fronts[:_MOST_CATEGORIES]:
        for name, point in ((present, front.present), ("recommended", front.recommended)):
            what = f"{front.category}, {name}: {setting_text(point.setting)}"
            rows.append((what, *_point_texts(point.first, point.second)))
    if len(outcome.fronts) > 1:
        for name in ("present", "recommended"):
            points: list[Point] = [getattr(front, name) for front in outcome.fronts]
            first, second = added(point.first for point in points), added(point.second for point in points)
            rows.append((f"all, {present if name == 'present' else name}", *_point_texts(first, second)))
    heads = ("per 1k, chosen on", "lost", "per 1k, reported", "lost", "95 % of lost")
    yield Table("recommended", "Recommended settings", ("", *heads), rows)


def _point_texts(first: Figures, second: Figures) -> tuple[str, ...]:
    return (
        money(first.cost_per_1k),
        _or_dash(first.loss),
        money(second.cost_per_1k),
        _or_dash(second.loss),
        _interval(second),
    )


def _interval(figures: Figures) -> str:
    """Between which shares the true one lies with a probability of 95 % (Wilson), were the losses whole requests."""
    if not figures.labelled:
        return "-"
    lost = min(max(0, round(figures.lost)), figures.labelled)
    interval = binomtest(lost, figures.labelled).proportion_ci(method="wilson")
    return f"{interval.low:.2%} to {interval.high:.2%}"


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _or_dash(share: float | None) -> str:
    return "-" if share is None else _percent(share)
