"""Tries bounds and thresholds of reuse with every way to choose tiers: what each costs and loses, by category."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from forebay_schemas.categories import MIN_SIMILARITY, CategoryConfig
from forebay_schemas.config import Config, changed

from .behaviour import Behaviour
from .decisions import tiers_of
from .figures import Figures
from .play import play
from .quality import quality_of
from .sums import count, figures_of
from .traffic import Traffic

_STEPS = tuple(step / 100 for step in range(round(100 * MIN_SIMILARITY), 100))
"""The thresholds that are tried, beside what holds."""
_DELTAS = (0.003, 0.01, 0.02)
"""The bounds on wrong answers that are tried, likewise."""
_BOUNDS = tuple(step / 10 for step in range(1, 10))
"""The bounds of tiers that are tried."""

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """How answers are reused.

    Attributes:
        policy: as the configuration names it; ``exact`` where only equal requests are answered again.
        similarity: the threshold, with ``fixed``.
        delta: with ``bounded``.
    """

    policy: str
    similarity: float | None = None
    delta: float | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The settings of a category, as a configuration file says them."""
        if self.policy == "exact":
            return {"reuse": "exact"}
        own = {"similarity": self.similarity, "delta": self.delta}
        return {"reuse": "semantic", "policy": self.policy} | {name: value for name, value in own.items() if value}


EXACT = Reuse(policy="exact")


@dataclass(frozen=True, slots=True)
class Setting:
    """What is tried for a category.

    Attributes:
        tier: the one to which all misses go; None: by complexity.
        bounds: ``complexity_up_to`` of all tiers but the last, the same for all categories.
    """

    reuse: Reuse
    tier: str | None
    bounds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A setting, and what it came to on the two parts of the traffic: the one to choose on, the one to report."""

    setting: Setting
    first: Figures
    second: Figures


def sweep(
    traffic: Traffic, config: Config, behaviour: Behaviour, most_kept: int | None, first: int, told: Told
) -> dict[str, list[Point]]:
    """The points of each category that is reused at all.

    The caches go on from one part to the other. Ways to choose tiers are tried only where the traffic says which tiers
    answer right; they change neither what is reused nor when, which the tier of an answer does a little.

    Args:
        first: how many rows the first part has.
    """
    names = sorted({kind.category for kind in traffic.kinds})
    now = {name: reuse_of(config.category(name)) for name in names}
    by_meaning = [name for name in names if now[name] not in (EXACT, None)]
    routes = list(_routes(traffic, config))
    tiers = [tiers_of(traffic, routed) for _, _, routed in routes]
    quality = quality_of(traffic, list(config.tiers))
    points: dict[str, list[Point]] = {name: [] for name in names if now[name] is not None}
    tried = _tried({reuse for name in by_meaning if (reuse := now[name])})
    for number, reuse in enumerate(tried, start=1):
        told(f"{number} of {len(tried)} ways of reuse tried")
        other = changed(config, {"categories": dict.fromkeys(by_meaning, reuse.changes)})
        played = play(traffic, other, behaviour, most_kept)
        parts = [count(traffic, played, other, quality, rows) for rows in (slice(first), slice(first, None))]
        for (fixed, bounds, routed), tier in zip(routes, tiers, strict=True):
            one, two = (figures_of(cells, traffic, tier, routed, behaviour) for cells in parts)
            for name, found in points.items():
                here = reuse if name in by_meaning else EXACT
                of_category = config.category(name).tier if fixed is None else fixed
                found.append(Point(Setting(here, of_category, bounds), one[name], two[name]))
    return {name: list({point.setting: point for point in found}.values()) for name, found in points.items()}


def reuse_of(category: CategoryConfig) -> Reuse | None:
    """What a category's settings say; None where nothing is reused."""
    if category.reuse != "semantic":
        return EXACT if category.reuse == "exact" else None
    return Reuse(
        policy=category.policy,
        similarity=category.similarity if category.policy == "fixed" else None,
        delta=category.delta if category.policy == "bounded" else None,
    )


def setting_of(config: Config, category: str) -> Setting:
    """What a configuration says of a category that is reused."""
    settings = config.category(category)
    return Setting(reuse_of(settings) or EXACT, settings.tier, _bounds(config))


def changes_of(chosen: Mapping[str, Setting], config: Config) -> dict[str, Any]:
    """The settings of categories as a configuration file says them."""
    bounds = next(iter(chosen.values())).bounds
    return {
        "tiers": {tier: {"complexity_up_to": bound} for tier, bound in zip(config.tiers, bounds, strict=False)},
        "categories": {
            name: setting.reuse.changes | ({} if setting.tier is None else {"tier": setting.tier})
            for name, setting in chosen.items()
        },
    }


def _tried(now: set[Reuse]) -> list[Reuse]:
    """Those that hold, bounds and steps through what may be set as a threshold; none by meaning comes last."""
    if not now:
        return [EXACT]
    steps = (*(Reuse(policy="bounded", delta=delta) for delta in _DELTAS),
             *(Reuse(policy="fixed", similarity=similarity) for similarity in _STEPS))  # fmt: skip
    return [*sorted(now.union(steps), key=lambda reuse: (reuse.policy, reuse.delta or reuse.similarity or 0.0)), EXACT]


def _routes(traffic: Traffic, config: Config) -> Iterator[tuple[str | None, tuple[float, ...], Config]]:
    """Ways to choose tiers: the one that holds, other bounds of the tiers, and one tier for all."""
    yield None, _bounds(config), config
    if not traffic.right:
        return
    *lower, _ = config.tiers
    for bounds in combinations(_BOUNDS, len(lower)):
        tiers = {tier: {"complexity_up_to": bound} for tier, bound in zip(lower, bounds, strict=True)}
        yield None, bounds, changed(config, {"tiers": tiers})
    names = {kind.category for kind in traffic.kinds}
    for tier in config.tiers:
        yield tier, _bounds(config), changed(config, {"categories": {name: {"tier": tier} for name in names}})


def _bounds(config: Config) -> tuple[float, ...]:
    return tuple(tier.complexity_up_to for tier in config.tiers.values())[:-1]
