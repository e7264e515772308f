"""Which settings are recommended: the cheapest that lose little enough, chosen on the first part of the traffic."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from forebay_schemas.config import Config

from .sweep import Point, Reuse, setting_of

MAX_LOSS = 0.003
"""Quality that may be lost, as a share of the requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The settings that were tried for one category, and which of them matter.

    Attributes:
        best: those than which no other is both cheaper and better on the first part (Pareto), the cheapest first.
        present: the one that holds.
    """

    category: str
    points: Sequence[Point]
    best: Sequence[Point]
    present: Point
    recommended: Point


def fronts(tried: Mapping[str, Sequence[Point]], config: Config, max_loss: float) -> list[Front]:
    """Of each category that is labelled, the dearest first."""
    labelled = {name: points for name, points in tried.items() if points[0].first.labelled}
    chosen = recommended(labelled, max_loss)
    found = [
        Front(
            category=name,
            points=points,
            best=best(points),
            present=next(point for point in points if point.setting == setting_of(config, name)),
            recommended=chosen[name],
        )
        for name, points in labelled.items()
    ]
    return sorted(found, key=lambda front: -front.present.first.cost)


def best(points: Iterable[Point]) -> list[Point]:
    """Those than which no other is both cheaper and better on the first part, the cheapest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.first.cost, _loss(point))):
        if not found or _loss(point) < _loss(found[-1]):
            found.append(point)
    return found


def recommended(points: Mapping[str, Sequence[Point]], max_loss: float) -> dict[str, Point]:
    """Of each category the cheapest point that loses at most so much on the first part, else the one that loses least.

    The bounds of tiers are the same for all categories: those with which the chosen points are cheapest together.

    Args:
        points: of categories that are labelled.
    """
    choices = [
        {name: _choose(_with_bounds(found, bounds), max_loss) for name, found in points.items()}
        for bounds in sorted({point.setting.bounds for found in points.values() for point in found})
    ]
    return min(choices, key=lambda chosen: _worth(chosen.values(), max_loss), default={})


def _with_bounds(points: Iterable[Point], bounds: tuple[float, ...]) -> list[Point]:
    """What a category can have beside these bounds; with one tier for all they do not matter."""
    return [
        replace(point, setting=replace(point.setting, bounds=bounds))
        for point in points
        if point.setting.bounds == bounds or point.setting.tier is not None
    ]


def _choose(points: Sequence[Point], max_loss: float) -> Point:
    within = [point for point in points if _loss(point) <= max_loss]
    # Of points that cost the same, and lose the same, it is the strictest.
    strict = sorted(within or points, key=lambda point: _laxness(point.setting.reuse))
    return min(
        strict, key=lambda point: (point.first.cost, _loss(point)) if within else (_loss(point), point.first.cost)
    )


def _laxness(reuse: Reuse) -> float:
    """Less is stricter; between a bound and a threshold nothing is said but that no reuse by meaning is strictest."""
    return 0.0 if reuse.policy == "exact" else (reuse.delta or 0.0) + (1.0 - (reuse.similarity or 1.0)) + 1e-9


def _worth(points: Iterable[Point], max_loss: float) -> tuple[int, float]:
    """Less is better: how many lose too much, then what all cost."""
    points = list(points)
    return sum(_loss(point) > max_loss for point in points), sum(point.first.cost for point in points)


def _loss(point: Point) -> float:
    return point.first.loss or 0.0
