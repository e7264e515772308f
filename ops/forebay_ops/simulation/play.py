"""Plays traffic through the caches under a configuration: how each request is answered, and by whose answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from forebay_schemas.config import Config
from forebay_schemas.records import CacheStatus

from .behaviour import Behaviour
from .caches import Caches
from .decisions import Terms, terms_of, tiers_of
from .traffic import COMPLETION, STATUSES, UNKNOWN, Ints, Traffic

_PLACES = {status: place for place, status in enumerate(STATUSES)}


@dataclass(frozen=True, slots=True)
class Played:
    """How each row was answered.

    Attributes:
        status: its place among ``STATUSES``.
        source: the row for which its answer was generated; itself where that was done for it, and where the answer of
            an unknown question was given.
        tier: of each case, where the router sends it, as its place in the configuration.
    """

    status: npt.NDArray[np.int8]
    source: Ints
    tier: Ints


def play(traffic: Traffic, config: Config, behaviour: Behaviour, most_kept: int | None = None) -> Played:
    """Play all traffic.

    Args:
        most_kept: answers that the exact cache has room for; None: any number.
    """
    terms = [terms_of(kind, config) for kind in traffic.kinds]
    tier = tiers_of(traffic, config)
    tier_of_row = tier[traffic.case]
    caches, near = Caches(most_kept), _near(traffic, config)
    _warm(caches, traffic, terms, tier_of_row)
    reads = np.array([each.reads for each in terms])[traffic.kind]
    status = np.where(reads, _PLACES[CacheStatus.MISS], _PLACES[CacheStatus.BYPASS]).astype(np.int8)
    source = np.arange(len(traffic), dtype=np.int64)
    ends_ms = traffic.at_ms + behaviour.times_ms(traffic, tier_of_row, list(config.tiers))
    complete = traffic.complete & ~_cut_off(traffic, tier_of_row, config)
    rows = _rows_that_matter(traffic, terms, near, most_kept)
    columns = (traffic.at_ms, traffic.question, traffic.kind, ends_ms, tier_of_row, complete)
    for row, now_ms, question, kind, end_ms, its_tier, whole in zip(
        rows.tolist(), *(column[rows].tolist() for column in columns), strict=True
    ):
        if now_ms >= caches.lands_ms:
            caches.land(now_ms)
        its = terms[kind]
        answered = caches.answer(question, near.get(question, ()), now_ms, its) if its.reads else None
        if answered is None:
            caches.lead(row, question, end_ms, its_tier, its, whole)
        else:
            status[row] = _PLACES[answered[0]]
            source[row] = row if answered[1] == UNKNOWN else answered[1]
    return Played(status, source, tier)


def _cut_off(traffic: Traffic, tier: Ints, config: Config) -> npt.NDArray[np.bool_]:
    """Whether the tier of each row lets it write less than the answer is known to have."""
    limits = np.array([each.max_tokens for each in config.tiers.values()])
    return traffic.told & (traffic.tokens[:, COMPLETION] > limits[tier])


def _near(traffic: Traffic, config: Config) -> dict[int, list[int]]:
    """Of each question that has any, the questions that are near enough, the nearest first."""
    found = traffic.neighbours
    least = np.array([config.category(kind.category).similarity for kind in traffic.kinds])
    needed = np.full(found.questions, np.inf)
    needed[traffic.question] = least[traffic.kind]  # equal requests are of one category
    of = np.repeat(np.arange(len(needed)), np.diff(found.starts))
    enough = found.cosines >= needed[of]
    of, near = of[enough], found.near[enough].tolist()
    questions, starts = np.unique(of, return_index=True)
    ends = np.append(starts, len(near))[1:]
    return {
        question: near[start:end]
        for question, start, end in zip(questions.tolist(), starts.tolist(), ends.tolist(), strict=True)
    }


def _warm(caches: Caches, traffic: Traffic, terms: list[Terms], tier: Ints) -> None:
    """Keep what was answered before the traffic, as if just before it is given for the first time."""
    kinds = traffic.kind
    for question, row in traffic.warm.items():
        caches.keep(question, row, int(traffic.at_ms[row]), int(tier[row]), terms[kinds[row]])


def _rows_that_matter(
    traffic: Traffic, terms: list[Terms], near: Mapping[int, Sequence[int]], most_kept: int | None
) -> Ints:
    """The rows that can be given a kept answer, or whose answer can be given to another; all others are generated.

    Where there is room for so many only, every answer that is kept takes the room of another.
    """
    matters = np.array([each.reads or each.keeps for each in terms])[traffic.kind]
    if most_kept is None:
        meets = np.bincount(traffic.question, minlength=traffic.neighbours.questions) > 1
        meets[[*traffic.warm, *near, *(each for some in near.values() for each in some if each != UNKNOWN)]] = True
        matters &= meets[traffic.question]
    return np.flatnonzero(matters)
