"""The benchmark harness: warm, in turn, medians beside the baseline of the same round, and goals that are judged."""

from collections.abc import Mapping

import pytest
from forebay_ops.bench.harness import Bench, Goal, Measure, figures, measure, percentiles


def silent(what: str) -> None: ...


class Sides:
    """Sides that note when they are measured, and give values one after the other."""

    def __init__(self, **values: list[float]) -> None:
        self.order: list[str] = []
        self._values = {side: iter(given) for side, given in values.items()}

    def all(self) -> dict[str, Measure]:
        return {side: self._measure(side) for side in self._values}

    def _measure(self, side: str) -> Measure:
        def run() -> Mapping[str, float]:
            self.order.append(side)
            return {"tokens_per_s": next(self._values[side])}

        return run


def test_sides_are_warmed_up_and_then_take_turns_forwards_and_backwards() -> None:
    sides = Sides(bare=[0, 1, 1, 1], ours=[0, 1, 1, 1])
    measure(Bench(sides.all()), 3, silent)
    assert sides.order == ["bare", "ours", *["bare", "ours"], *["ours", "bare"], *["bare", "ours"]]


def test_the_warm_up_does_not_count() -> None:
    sides = Sides(bare=[1000, 10, 30, 20])
    (figure,) = measure(Bench(sides.all()), 3, silent)
    assert figure.rounds == [10, 30, 20]
    assert (figure.median, figure.low, figure.high) == (20, 10, 30)


def test_the_ratio_is_to_the_baseline_of_the_same_round() -> None:
    # The machine halves its speed in the second round: each round still says the same about ours.
    sides = Sides(bare=[1, 100, 50, 100], ours=[1, 90, 45, 90])
    bare, ours = measure(Bench(sides.all()), 3, silent)
    assert bare.ratio is None
    assert ours.ratio == pytest.approx(0.9)


def test_a_metric_has_the_first_side_that_reports_it_as_its_baseline() -> None:
    taken = [{"a": {"x_ms": 1.0}, "b": {"x_ms": 2.0, "y_ms": 4.0}, "c": {"y_ms": 6.0}}]
    found = [(figure.metric, figure.side, figure.ratio) for figure in figures(taken, ["a", "b", "c"], ())]
    assert found == [("x_ms", "a", None), ("x_ms", "b", 2.0), ("y_ms", "b", None), ("y_ms", "c", 1.5)]


def test_there_is_no_ratio_to_nothing() -> None:
    _, ours = figures(
        [{"a": {"lost": 0.0}, "b": {"lost": 3.0}}], ["a", "b"], [Goal(side="b", metric="lost", at_most=1)]
    )
    assert ours.ratio is None
    assert ours.met is None


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal(side="ours", metric="m", at_least=0.95), True),
        (Goal(side="ours", metric="m", at_least=0.97), False),
        (Goal(side="ours", metric="m", at_most=1.15), True),
        (Goal(side="ours", metric="m", at_most=90, of="figure"), False),
        (Goal(side="ours", metric="m", at_least=96, of="figure"), True),
        (Goal(side="ours", metric="m", at_most=-4, of="difference"), True),
        (Goal(side="ours", metric="m", at_most=-5, of="difference"), False),
    ],
)
def test_goals_are_for_the_ratio_the_difference_or_the_figure(goal: Goal, met: bool) -> None:
    _, ours = figures([{"bare": {"m": 100.0}, "ours": {"m": 96.0}}], ["bare", "ours"], [goal])
    assert ours.met is met
    assert ours.goal == str(goal)


def test_of_several_goals_for_one_figure_all_count() -> None:
    ratio = Goal(side="ours", metric="p99_ms", at_most=1.5)
    whole = Goal(side="ours", metric="p99_ms", at_most=125, of="figure")
    _, ours = figures([{"bare": {"p99_ms": 100.0}, "ours": {"p99_ms": 130.0}}], ["bare", "ours"], [ratio, whole])
    assert (ours.goal, ours.met) == ("at most 1.5x; at most 125", False)


def test_what_stops_a_side_stops_the_measurement() -> None:
    def interrupted() -> Mapping[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(Bench({"bare": interrupted}), 3, silent)


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentiles([5.0]) == {"p50_ms": 5.0, "p95_ms": 5.0}
    assert percentiles(range(100, 0, -1), "added_") == {"added_p50_ms": 50, "added_p95_ms": 95}
    assert percentiles(range(1, 1001), shares=(99, 99.9)) == {"p99_ms": 990, "p999_ms": 999}
