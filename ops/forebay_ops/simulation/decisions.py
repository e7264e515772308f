"""What the job's own rules decide about each kind and case of request under a configuration, each asked once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from forebay_jobs.flights import lanes_to_join
from forebay_jobs.reuse.eligibility import Reuse, withheld_by_policy, within_category
from forebay_jobs.reuse.lifetime import kept_s, shorter_s
from forebay_jobs.reuse.tier_bounds import within_bounds
from forebay_jobs.router.ladder import choose
from forebay_schemas.config import Config
from forebay_schemas.records import CachePolicy, Lane

from .traffic import Ints, Kind, Traffic

_Limits = tuple[str | None, str | None, int | None]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is allowed to the requests of a kind.

    Attributes:
        reads: whether a kept answer may be given, and a flight joined.
        by_meaning: whether the answer to a similar question may.
        keeps: whether the answer is kept for others.
        learns: whether the question is indexed with it.
        exact_s, semantic_s: how old an answer may be that is given again.
        fresh_s: from which age on it is generated anew for the first to ask; None: never.
        kept_s: how long the answer is kept.
        own_s: the request's own limit on both.
        flight: which flights it leads: its lane, with its limits.
        joins: the flights that it may join.
        within: by tier, whether its answers are within the request's bounds.
    """

    category: str
    reads: bool
    by_meaning: bool
    keeps: bool
    learns: bool
    exact_s: int
    semantic_s: int
    fresh_s: int | None
    kept_s: int
    own_s: int | None
    flight: tuple[Lane, _Limits]
    joins: tuple[tuple[Lane, _Limits], ...]
    within: tuple[bool, ...]


def terms_of(kind: Kind, config: Config) -> Terms:
    """What a configuration allows to a kind of request."""
    category = config.category(kind.category)
    reuse = withheld_by_policy(kind.policy, kind.temperature, category) or within_category(kind.nature, category)
    reads = reuse.allowed and kind.policy is CachePolicy.USE
    limits = (kind.min_tier, kind.max_tier, kind.ttl_s)
    return Terms(
        category=kind.category,
        reads=reads,
        by_meaning=reads and reuse is Reuse.SEMANTIC,
        keeps=reuse.allowed,
        learns=reuse is Reuse.SEMANTIC,
        exact_s=shorter_s(category.exact_ttl_s, kind.ttl_s),
        semantic_s=shorter_s(category.semantic_ttl_s, kind.ttl_s),
        fresh_s=category.fresh_s,
        kept_s=kept_s(category, kind.ttl_s),
        own_s=kind.ttl_s,
        flight=(kind.lane, limits),
        joins=tuple((lane, limits) for lane in lanes_to_join(kind.lane)),
        within=tuple(within_bounds(tier, kind.min_tier, kind.max_tier, config) for tier in config.tiers),
    )


def tiers_of(traffic: Traffic, config: Config) -> Ints:
    """Of each case the tier that the router chooses, as its place in the configuration."""
    places = {tier: place for place, tier in enumerate(config.tiers)}
    return np.array([places[tier] for tier in _chosen(traffic, config)], dtype=np.int64)


def _chosen(traffic: Traffic, config: Config) -> Sequence[str]:
    kinds = traffic.kinds
    return [
        choose(
            case.complexity,
            case.recognised,
            kind.category,
            kind.min_tier,
            kind.max_tier,
            config,
            kind.task_tier if kind.task_tier in config.tiers else None,
        ).tier
        for case in traffic.cases
        for kind in [kinds[case.kind]]
    ]
