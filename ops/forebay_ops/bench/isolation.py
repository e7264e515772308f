"""Exact hits while as much as possible is answered by meaning beside them, on the same two cores and topics."""

from forebay_schemas.records import CacheStatus

from .harness import Bench, Goal, Say
from .load import Load
from .process import BenchFailed
from .semantic import Pipeline

ALONE, BESIDE = "exact hits alone", "beside hits by meaning"
_RATE_PER_S = 500.0
_LASTING_S = 6.0
_OVER = 1.5
"""So many times what can be answered by meaning is asked, so that more and more of it waits."""
_AT_ONCE = 1_000
_MOST_TIMES = 2.0


def bench(it: Pipeline, say: Say) -> Bench:
    """The same exact hits, alone and beside more questions in new words than can be answered."""
    exact = Load(it.it, it.config, it.known, statuses=[CacheStatus.EXACT])
    meaning = it.hits(over_and_over=True)
    say("looking how many a second are answered by meaning")
    meaning.run(_AT_ONCE)
    most_per_s = meaning.run(_AT_ONCE).requests_per_s

    def alone() -> dict[str, float]:
        return exact.run(round(_RATE_PER_S * _LASTING_S), _RATE_PER_S).percentiles()

    def beside() -> dict[str, float]:
        rate_per_s = most_per_s * _OVER
        order = meaning.begin(round(rate_per_s * _LASTING_S), rate_per_s)
        hits = exact.run(round(_RATE_PER_S * _LASTING_S), _RATE_PER_S)
        other = meaning.finish(order)
        lasted_s = order.count / other.requests_per_s
        if lasted_s < _LASTING_S:
            raise BenchFailed(f"the hits by meaning were over after {lasted_s:.1f} s, before the exact ones were")
        return {**hits.percentiles(), "meaning_per_s": other.requests_per_s}

    return Bench(
        sides={ALONE: alone, BESIDE: beside},
        goals=(Goal(side=BESIDE, metric="p99_ms", at_most=_MOST_TIMES),),
        facts={**it.facts, "exact hits a second": _RATE_PER_S, "by meaning, alone, a second": most_per_s},
        processes=it.it.processes,
    )
