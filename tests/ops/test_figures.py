"""Times, amounts of money and percentiles, as they are shown."""

import pytest
from forebay_ops.figures import dollars, duration, percentile

DURATIONS = {None: "-", 0.2: "0 ms", 999.4: "999 ms", 999.6: "1.00 s", 61_234.0: "61.23 s", 120_000.0: "120 s"}


@pytest.mark.parametrize(("ms", "text"), DURATIONS.items())
def test_durations_take_at_most_seven_characters(ms: float | None, text: str):
    assert duration(ms) == text
    assert len(text) <= 7


def test_dollars_are_told_to_the_millionth():
    assert dollars(0.0) == "$0"
    assert dollars(0.0000042) == "$0.000004"
    assert dollars(-0.5) == "-$0.500000"


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 50.0), (95, 95.0), (99, 99.0), (100, 100.0), (0, 1.0)]
)  # fmt: skip
def test_a_percentile_is_the_nearest_rank(percent: int, expected: float):
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


def test_a_percentile_of_few_values_is_one_of_them_and_of_none_is_none():
    assert percentile([7.0], 99) == 7.0
    assert percentile([1.0, 9.0], 50) == 1.0
    assert percentile([], 50) is None
