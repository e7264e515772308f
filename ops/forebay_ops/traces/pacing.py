"""The times of a trace: played faster or slower, or made up."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from .arrivals import Arrival


def at_speed(arrivals: Iterable[Arrival], speed: float) -> list[Arrival]:
    """The arrivals ``speed`` times as fast; bursts and pauses keep their proportions."""
    return [replace(arrival, at_ms=arrival.at_ms / speed) for arrival in arrivals]


def at_rate(arrivals: Sequence[Arrival], rate_per_s: float) -> list[Arrival]:
    """The arrivals as fast as makes so many a second on average; as they are where all come at once."""
    lasting_s = arrivals[-1].at_ms / 1000 if arrivals else 0.0
    return at_speed(arrivals, rate_per_s * lasting_s / (len(arrivals) - 1)) if lasting_s else list(arrivals)


def sampled(arrivals: Iterable[Arrival], count: int, seed: int) -> list[Arrival]:
    """So many of the arrivals, or all where there are fewer, drawn from the whole: the trace's shape, thinner."""
    dice = random.Random(seed)
    chosen: dict[int, Arrival] = {}
    places: list[int] = []
    for number, arrival in enumerate(arrivals):  # Vitter's algorithm R: of a long trace no more is held
        if len(places) < count:
            places.append(number)
        elif (place := dice.randrange(number + 1)) < count:
            del chosen[places[place]]
            places[place] = number
        else:
            continue
        chosen[number] = arrival
    return [chosen[number] for number in sorted(chosen)]


def poisson(count: int, rate_per_s: float, seed: int) -> Iterator[Arrival]:
    """Arrivals of many people who know nothing of each other: so many a second on average, at random moments."""
    dice = random.Random(seed)
    at_ms = 0.0
    for _ in range(count):
        yield Arrival(at_ms=at_ms)
        at_ms += dice.expovariate(rate_per_s) * 1000
