"""The sums at the end of the demo, from made-up replies."""

from forebay_ops.demo.script import Expect
from forebay_ops.demo.summary import summarise
from forebay_schemas.records import CacheStatus, Route, Usage

from tests.ops.demo_doubles import ERROR, a_line, an_outcome

TIERS = ("small", "medium", "large")


def route_to(tier: str) -> Route:
    return Route(tier=tier, complexity=0.5, confidence=1.0, reason="complexity")


def test_requests_are_counted_by_how_they_were_answered_with_their_latencies():
    lines = [a_line(number, expect=Expect.EXACT) for number in range(1, 5)] + [a_line(5)]
    summary = summarise([an_outcome(line, latency_ms=10.0 * line.number) for line in lines], TIERS)

    exact, miss = summary.kinds
    assert (exact.kind, exact.count, exact.p50_ms, exact.p95_ms, exact.p99_ms) == (Expect.EXACT, 4, 20.0, 40.0, 40.0)
    assert (miss.kind, miss.count, miss.p50_ms) == (Expect.MISS, 1, 50.0)
    assert summary.requests == 5


def test_only_what_was_generated_counts_for_a_tier():
    summary = summarise(
        [
            an_outcome(a_line(1), route=route_to("small"), usage=Usage(completion_tokens=10), cost=1.0),
            an_outcome(a_line(2, expect=Expect.BYPASS), route=route_to("large"), cost=3.0, baseline_cost=3.0),
            an_outcome(a_line(3), route=route_to("small"), usage=Usage(completion_tokens=5), cost=0.5),
            an_outcome(a_line(4, expect=Expect.EXACT), route=route_to("medium")),
        ],
        TIERS,
    )

    assert [(row.tier, row.count) for row in summary.tiers] == [("small", 2), ("medium", 0), ("large", 1)]
    assert summary.tiers[0].completion_tokens == 15
    assert summary.tiers[0].cost == 1.5
    assert summary.generated == 3


def test_savings_are_split_into_reuse_and_smaller_tiers():
    summary = summarise(
        [
            an_outcome(a_line(1), cost=1.0, baseline_cost=10.0),
            an_outcome(a_line(2, expect=Expect.EXACT), cost=0.0, baseline_cost=10.0),
            an_outcome(a_line(3, expect=Expect.SEMANTIC), cost=0.0, baseline_cost=6.0),
            an_outcome(a_line(4, expect=Expect.JOINED), cost=0.0, baseline_cost=4.0),
        ],
        TIERS,
    )

    assert summary.cost == 1.0
    assert summary.baseline_cost == 30.0
    assert summary.saved == 29.0
    assert summary.saved_by_reuse == 20.0
    assert summary.saved_by_tiers == 9.0


def test_errors_and_dead_letters_are_counted_apart():
    summary = summarise(
        [
            an_outcome(a_line(1, expect=Expect.ERROR)),
            an_outcome(a_line(2, expect=Expect.DEAD_LETTER)),
            an_outcome(a_line(3, expect=Expect.DEAD_LETTER, tenant=None, raw="?")),
        ],
        TIERS,
    )

    assert summary.errors == {"deadline_exceeded": 1}
    assert summary.dead_letters == {"not_avro": 2}
    assert summary.dead_letters_told == 1
    assert summary.kinds[-1].p50_ms == 10.0


def test_what_is_answered_otherwise_than_expected_is_a_surprise():
    joined = an_outcome(a_line(1, at=1, expect=Expect.JOINED), cache_status=CacheStatus.EXACT)
    failed = an_outcome(a_line(2), error=ERROR)

    summary = summarise([joined, failed, an_outcome(a_line(3))], TIERS)

    assert summary.surprises == [joined, failed]
    assert [outcome.kind for outcome in summary.surprises] == [Expect.EXACT, Expect.ERROR]


def test_which_of_equal_lines_of_a_moment_is_generated_is_no_surprise():
    leader = an_outcome(a_line(1, expect=Expect.JOINED), cache_status=CacheStatus.MISS)
    follower = an_outcome(a_line(2, expect=Expect.MISS), cache_status=CacheStatus.JOINED)
    elsewhere = an_outcome(a_line(3, at=2, expect=Expect.JOINED), cache_status=CacheStatus.MISS)

    assert summarise([leader, follower, elsewhere], TIERS).surprises == [elsewhere]


def test_an_empty_play_has_sums_of_zero():
    summary = summarise([], TIERS)

    assert summary.requests == summary.generated == 0
    assert summary.cost == summary.saved == 0
    assert summary.kinds == []
