"""Plays traffic through the caches under a configuration: how each request is answered, and by whose answer."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from forebay_jobs.reuse.lifetime import lived
from forebay_schemas.config import Config
from forebay_schemas.records import CacheStatus

from .behaviour import Behaviour
from .caches import Caches
from .decisions import Terms, terms_of, tiers_of
from .policies import AsRecorded, Decides, Learned, Learning, Threshold
from .traffic import COMPLETION, STATUSES, UNKNOWN, Ints, Kind, Traffic

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


def play(
    traffic: Traffic, config: Config, behaviour: Behaviour, most_kept: int | None = None, run: str = "simulated"
) -> Played:
    """Play all traffic.

    Args:
        most_kept: answers that the exact cache has room for; None: any number.
        run: name of the replay; policies that draw lots draw those of its requests.
    """
    terms = [terms_of(kind, config) for kind in traffic.kinds]
    if traffic.words is None:  # whom a ledger tells to have been given an old answer was given it
        terms = [replace(each, fresh_s=None) for each in terms]
    tier = tiers_of(traffic, config)
    tier_of_row = tier[traffic.case]
    caches, near = Caches(most_kept, _lives(traffic, config)), traffic.near
    learning = Learning(traffic, config, caches, run)
    decides = [_decides(kind, traffic, config, learning) for kind in traffic.kinds]
    _warm(caches, traffic, terms, tier_of_row)
    reads = np.array([each.reads for each in terms])[traffic.kind]
    timely = np.array([each.learns for each in terms])[traffic.kind] & traffic.timely[traffic.question]
    status = np.where(reads & ~timely, _PLACES[CacheStatus.MISS], _PLACES[CacheStatus.BYPASS]).astype(np.int8)
    source = np.arange(len(traffic), dtype=np.int64)
    ends_ms = traffic.at_ms + behaviour.times_ms(traffic, tier_of_row, list(config.tiers))
    complete = traffic.complete & ~timely & ~_cut_off(traffic, tier_of_row, config)
    rows = _rows_that_matter(traffic, terms, decides, most_kept)
    beside: dict[int, int] = {}  # with which answer the one that is generated for a row will be compared
    columns = (traffic.at_ms, traffic.question, traffic.kind, ends_ms, tier_of_row, complete, timely)
    for row, now_ms, question, kind, end_ms, its_tier, whole, for_now in zip(
        rows.tolist(), *(column[rows].tolist() for column in columns), strict=True
    ):
        if now_ms >= caches.lands_ms:
            for landed in caches.land(now_ms):
                caches.use(beside.pop(landed[0], UNKNOWN), landed[2])
                learning.kept(*landed)
        its = terms[kind]
        refresh = its.reads and caches.refreshes(question, now_ms, its)
        found = caches.equal(question, now_ms, its, refresh) if its.reads else None
        if found is None and its.by_meaning and not refresh and not for_now:
            known = caches.known(question, near.get(question, ()), decides[kind].least, now_ms, its)
            if decides[kind].reuses(row, question, known):
                found = CacheStatus.SEMANTIC, known[0].row
            elif known:
                beside[row] = known[0].question
        if found is None:
            caches.lead(row, question, end_ms, its_tier, its, whole)
        else:
            status[row] = _PLACES[found[0]]
            source[row] = row if found[1] == UNKNOWN else found[1]
    return Played(status, source, tier)


def _lives(traffic: Traffic, config: Config) -> list[float]:
    """Of each question the share of its time that an answer lives; of a ledger all of it, which nobody knows better."""
    jitter = config.redis.expiry_jitter
    questions = traffic.neighbours.questions
    return [1.0] * questions if traffic.lots is None else [lived(lot, jitter) for lot in traffic.lots]


def _decides(kind: Kind, traffic: Traffic, config: Config, learning: Learning) -> Decides:
    category = config.category(kind.category)
    if category.policy == "fixed":
        return Threshold(category.similarity)
    return AsRecorded() if traffic.words is None else learning.of(kind.owner, kind.tenant, kind.category)


def _cut_off(traffic: Traffic, tier: Ints, config: Config) -> npt.NDArray[np.bool_]:
    """Whether the tier of each row lets it write less than the answer is known to have."""
    limits = np.array([each.max_tokens for each in config.tiers.values()])
    return traffic.told & (traffic.tokens[:, COMPLETION] > limits[tier])


def _warm(caches: Caches, traffic: Traffic, terms: list[Terms], tier: Ints) -> None:
    """Keep what was answered before the traffic, as if just before it is given for the first time."""
    kinds = traffic.kind
    for question, row in traffic.warm.items():
        caches.keep(question, row, int(traffic.at_ms[row]), int(tier[row]), terms[kinds[row]])


def _rows_that_matter(
    traffic: Traffic,
    terms: list[Terms],
    decides: list[Decides],
    most_kept: int | None,
) -> Ints:
    """The rows that can be given a kept answer, or whose answer can be given to another; all others are generated.

    Where there is room for so many only, every answer that is kept takes the room of another; and a policy that learns
    counts every request.
    """
    matters = np.array([each.reads or each.keeps for each in terms])[traffic.kind]
    if most_kept is None:
        found = traffic.neighbours
        meets = np.bincount(traffic.question, minlength=found.questions) > 1
        meets |= np.diff(found.starts) > 0
        meets[[*traffic.warm, *found.near[found.near != UNKNOWN].tolist()]] = True
        learns = [
            isinstance(decider, Learned) and each.by_meaning for decider, each in zip(decides, terms, strict=True)
        ]
        matters &= meets[traffic.question] | np.array(learns)[traffic.kind]
    return np.flatnonzero(matters)
