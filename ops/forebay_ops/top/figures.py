"""What all parts of one kind say together: now, and how much it grew over a row of looks. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .look import Look
from .scrape import Kind, Labels, Metric, Samples, Target


class Sums:
    """Samples of several processes, added up by metric and labels; of None nothing is known, which is not zero."""

    def __init__(self, samples: Samples | None) -> None:
        self._samples = samples

    def total(self, metric: Metric, **labels: str) -> float | None:
        """The sum of the samples that have these labels: 0 where there is none, None where nothing is known."""
        if self._samples is None:
            return None
        return math.fsum(value for _, value in self._having(metric, labels))

    def by(self, metric: Metric, *names: str, **labels: str) -> dict[tuple[str, ...], float]:
        """The same for each combination of values that the labels ``names`` have."""
        sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for found, value in self._having(metric, labels):
            sums[tuple(found[name] for name in names)] += value
        return dict(sums)

    def _having(self, metric: Metric, labels: Mapping[str, str]) -> Iterator[tuple[dict[str, str], float]]:
        for (name, pairs), value in (self._samples or {}).items():
            found = dict(pairs)
            if name is metric and labels.items() <= found.items():
                yield found, value


@dataclass(frozen=True, slots=True)
class Figures:
    """The sums over the parts of one kind.

    Attributes:
        now: of the last look; unknown where no part of the kind answered it.
        grown: of counters, what they grew by over all looks; unknown too until a part has answered twice.
        rates: the same by the second.
    """

    now: Sums
    grown: Sums
    rates: Sums


def figures(kind: Kind, looks: Sequence[Look]) -> Figures:
    """What the parts of a kind say in these looks, which go from the oldest to the newest."""
    seen = [(look.at_s, _answers(kind, look)) for look in looks]
    at_s, answering = seen[-1]
    if not answering:
        return Figures(Sums(None), Sums(None), Sums(None))
    seconds = at_s - next(at_s for at_s, answers in seen if answers)
    if not seconds:
        return Figures(Sums(_sum(answering.values())), Sums(None), Sums(None))
    in_turn: defaultdict[Target, list[Samples]] = defaultdict(list)
    for _, answers in seen:
        for target, samples in answers.items():
            in_turn[target].append(samples)
    grown = _sum(_growth(before, after) for turns in in_turn.values() for before, after in pairwise(turns))
    rates = {series: value / seconds for series, value in grown.items()}
    return Figures(Sums(_sum(answering.values())), Sums(grown), Sums(rates))


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """The value that a share of all observations do not exceed, as Prometheus' ``histogram_quantile`` has it.

    Within a bucket observations count as evenly spread. What lies in the last one, which has no end, counts as the
    greatest bound there is. None where nothing was observed.

    Args:
        share: in [0, 1].
        buckets: observations at most as great as each upper bound; the greatest is infinite.
    """
    bounds = sorted(buckets)
    count = buckets[bounds[-1]] if bounds else 0.0
    if not count:
        return None
    rank = share * count
    place = next(place for place, bound in enumerate(bounds) if buckets[bound] >= rank)
    lower, below = (bounds[place - 1], buckets[bounds[place - 1]]) if place else (0.0, 0.0)
    if math.isinf(bounds[place]):
        return lower
    inside = buckets[bounds[place]] - below
    return lower + (bounds[place] - lower) * ((rank - below) / inside if inside else 1.0)


def _answers(kind: Kind, look: Look) -> dict[Target, Samples]:
    return {target: said for target, said in look.samples.items() if target.kind is kind and said is not None}


def _growth(before: Samples, after: Samples) -> Samples:
    """What the counters of a process grew by. Where any fell or is gone it is another process, which began at zero."""
    counters = {series: value for series, value in after.items() if series[0].is_counter}
    if any(counters.get(series, -1.0) < value for series, value in before.items() if series[0].is_counter):
        return counters
    return {series: value - before.get(series, 0.0) for series, value in counters.items()}


def _sum(of_several: Iterable[Samples]) -> Samples:
    sums: defaultdict[tuple[Metric, Labels], float] = defaultdict(float)
    for samples in of_several:
        for series, value in samples.items():
            sums[series] += value
    return sums
