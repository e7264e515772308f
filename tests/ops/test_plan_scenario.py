"""Published claims recomputed: what follows, what is solved for, and what measured rates make of them."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from forebay_ops.cli import forebay
from forebay_ops.planning.explained import Finding, Judged, verdict
from forebay_ops.planning.measured import MeasuredError, Ours, read_measured, with_measured
from forebay_ops.planning.scenarios import CLAIMS, Recomputed, recompute

OF_A_DESK = {
    "source": "Banking77",
    "hit_rate": 0.3004099,
    "wrong_share": 0.0011996,
    "split": {"small": 0.8633895, "medium": 0.1363247, "large": 0.0002858},
    "price_per_query": {"small": 0.0000660379, "medium": 0.0008007969, "large": 0.004452},
}
"""What `forebay plan simulate` measured where docs/costs.md says so."""
PRICES = {"small": 0.0002, "medium": 0.002, "large": 0.02}
MEASURED: dict[str, Any] = {
    "source": "5,000 questions",
    "hit_rate": 0.4,
    "wrong_share": 0.01,
    "split": {"small": 0.7, "medium": 0.2, "large": 0.1},
}


def found(name: str, **changed: Any) -> Recomputed:
    claim = CLAIMS[name]
    return recompute(claim, replace(claim.inputs, **changed))


def judged(name: str, **changed: Any) -> list[Judged]:
    return list(verdict(CLAIMS[name], found(name, **changed)))


# --- a claim that states all but its hits ---------------------------------------------------------------------------


def test_the_hits_that_the_47k_claim_needs_are_solved_for() -> None:
    month = found("47k")

    assert month.inputs.miss_usd == pytest.approx(0.62 * 0.0001 + 0.28 * 0.001 + 0.1 * 0.01)
    assert month.routed_usd == pytest.approx(60_390)
    assert month.needed_hit_rate == pytest.approx(1 - 2_800 / 60_390)
    assert found("47k", hit_rate=month.needed_hit_rate).after_usd == pytest.approx(2_800)


def test_its_start_is_no_bill_at_the_large_price() -> None:
    month = found("47k")

    assert month.inputs.largest_usd == pytest.approx(450_000)
    assert month.break_even_hit_rate == pytest.approx(1 - 47_000 / 60_390)
    [start, routing, end] = judged("47k")
    assert (start.finding, routing.finding, end.finding) == (Finding.OPEN, Finding.DOES_NOT, Finding.OPEN)
    assert "$450,000, 9.6 times that. $47,000 is $0.001044 a query, as 9.5 % large and 90.5 % small, or" in start.text
    assert "$60,390, $13,390 more than the start" in routing.text
    assert "95.4 % hits" in end.text


def test_the_mixes_that_the_start_may_mean_cost_the_start() -> None:
    month = found("47k")
    prices = month.inputs.prices
    assert prices is not None

    assert [(mix.dearer, mix.cheaper) for mix in month.mixes] == [("large", "small"), ("large", "medium")]
    for mix in month.mixes:
        mean = mix.share * prices[mix.dearer] + (1 - mix.share) * prices[mix.cheaper]
        assert 45_000_000 * mean == pytest.approx(47_000)


def test_a_start_outside_of_all_prices_does_not_follow() -> None:
    [start, *_] = judged("47k", queries=1_000_000)

    assert start.finding is Finding.DOES_NOT
    assert "$47,000 is $0.047 a query, which no mix of the tiers costs" in start.text


def test_fixed_costs_leave_less_for_misses() -> None:
    assert found("47k", fixed_usd=500).needed_hit_rate == pytest.approx(1 - 2_300 / 60_390)
    assert found("47k", fixed_usd=500).routed_usd == pytest.approx(60_890)
    [*_, end] = judged("47k", fixed_usd=2_800)

    assert "no hit rate brings it there" in end.text


@pytest.mark.parametrize(
    ("hit_rate", "finding", "says"),
    [
        (0.35, Finding.DOES_NOT, "at 35 % hits the bill is $39,254, $36,454 more than claimed. 95.4 % hits would be"),
        (0.9536, Finding.FOLLOWS, "at 95.4 % hits the bill is $2,802"),
        (0.97, Finding.FOLLOWS, "$988 less than claimed"),
    ],
)
def test_with_a_stated_hit_rate_the_end_is_checked(hit_rate: float, finding: Finding, says: str) -> None:
    [*_, end] = judged("47k", hit_rate=hit_rate)

    assert end.finding is finding
    assert says in end.text


def test_a_claim_that_adds_up_is_said_to_follow() -> None:
    parts = judged("47k", queries=4_700_000, hit_rate=1 - 2_800 / (4_700_000 * 0.001342))

    assert [part.finding for part in parts] == [Finding.FOLLOWS] * 3


# --- a claim that states its hits only ------------------------------------------------------------------------------


def test_what_a_miss_may_cost_is_solved_for() -> None:
    month = found("62k")

    assert month.left_by_hits_usd == pytest.approx(62_400 * 0.65)
    assert month.needed_miss_share == month.most_at_largest == pytest.approx(4_850 / 40_560)
    [hits, end, condition] = judged("62k")
    assert (hits.finding, end.finding, condition.finding) == (Finding.FOLLOWS, Finding.OPEN, Finding.OPEN)
    assert "at most 12 % of the misses may go to the large tier, 7.8 % of all queries" in end.text
    assert "large share + medium share x medium price / large price + small share x" in condition.text


def test_prices_give_the_queries_and_the_greatest_share_of_the_dearest_tier() -> None:
    month = found("62k", prices=PRICES)
    most = month.most_at_largest

    assert month.queries_solved
    assert month.inputs.queries == pytest.approx(62_400 / 0.02)
    assert most is not None
    assert found("62k", prices=PRICES, split={"large": most, "small": 1 - most}).after_usd == pytest.approx(4_850)


def test_with_prices_and_a_split_it_is_checked() -> None:
    month = found("62k", prices=PRICES, split={"small": 0.8, "medium": 0.15, "large": 0.05})

    assert month.after_usd == pytest.approx(3_120_000 * 0.65 * 0.00146)


def test_a_cheapest_tier_that_is_too_dear_is_said_to_be() -> None:
    [*_, end] = judged("62k", prices={"small": 0.003, "large": 0.02})

    assert end.finding is Finding.DOES_NOT
    assert "not even with every miss at the cheapest tier" in end.text


# --- measured rates -------------------------------------------------------------------------------------------------


def ours(name: str, **fields: Any) -> Ours:
    return with_measured(CLAIMS[name], found(name), read_measured(json.dumps(MEASURED | fields).encode()))


def test_measured_rates_take_the_place_of_the_claims() -> None:
    month = ours("47k")

    assert month.after_usd == pytest.approx(45_000_000 * 0.6 * 0.00127)
    assert (month.before_usd, month.wrong) == (pytest.approx(450_000), pytest.approx(450_000))
    assert [step.what for step in month.steps] == ["the hit rate", "the split of the misses"]
    assert [step.adds_usd for step in month.steps] == pytest.approx([60_390 * 0.6 - 2_800, 34_290 - 60_390 * 0.6])


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("changed", [{}, {"hit_rate": 0.5}, {"fixed_usd": 700}, {"prices": PRICES}])
def test_the_steps_add_up_to_the_difference(name: str, changed: dict[str, Any]) -> None:
    measured = read_measured(json.dumps(MEASURED | {"price_per_query": {**PRICES, "small": 0.0}}).encode())
    month = with_measured(CLAIMS[name], found(name, **changed), measured)

    assert sum(step.adds_usd for step in month.steps) == pytest.approx(month.after_usd - CLAIMS[name].after_usd)


def test_where_the_claim_is_silent_the_bill_from_before_gives_the_queries() -> None:
    month = ours("62k", price_per_query=PRICES)

    assert (month.queries, month.before_usd) == (pytest.approx(3_120_000), pytest.approx(62_400))
    assert [step.what for step in month.steps] == ["the hit rate", "the split of the misses and their prices"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"hit_rate": 35}, "hit_rate: 35.0 is no share of at least 0 and below 1; 35 % is 0.35"),
        ({"wrong_share": 0.5}, "wrong_share: 0.5 is not between 0 and hit_rate; give wrong hits / all queries"),
        ({"split": {"small": 0.5}}, "split: its shares add up to 50.0%; they have to be 100 %"),
        ({"split": {"small": 62, "large": 38}}, "split: small has 62; give each tier its share of the misses"),
        ({"price_per_query": {"small": -1}}, "price_per_query: small has -1; a price is at least 0"),
        ({"price_per_query": {"small": 0}}, "price_per_query: all are 0; the dearest tier needs a price"),
        ({"colour": 1}, "cannot be read (Object contains unknown field `colour`); `forebay plan scenario -h` shows"),
        ({"split": {"huge": 1}}, "split: huge has no price; name the tiers as the prices do"),
    ],
)
def test_measured_rates_that_cannot_be_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(MeasuredError) as caught:
        ours("47k", **fields)

    assert says in str(caught.value)


def test_without_any_prices_the_measurement_says_so() -> None:
    with pytest.raises(MeasuredError, match="price_per_query: is missing, and 62k names no prices; give them in the"):
        ours("62k")


# --- the command ----------------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    result = CliRunner().invoke(forebay, ["plan", "scenario", *arguments], env={"COLUMNS": "100"})
    return f"{result.output}{result.exception or ''}"


def test_both_claims_are_shown_with_what_they_assume() -> None:
    text = run()

    assert text.count("assumed") == text.count("arithmetic") == 2
    assert "62 % x 0.0001 + 28 % x 0.001 + 10 % x 0.01" in text
    assert "45,000,000 x 0.01" in text
    assert "measured" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_options_take_the_place_of_what_a_claim_states() -> None:
    text = run("47k", "--queries", "1e6", "--hit-rate", "0.5", "--fixed", "100",
               "--split", "small=50,large=50", "--price", "small=0.001,large=0.01")  # fmt: skip

    assert text.count("an option") == 5
    assert "1,000,000 x 0.0055 x (1 - 50 %) + 100" in text
    assert "$2,850" in text


def test_a_file_of_measured_rates_adds_their_column(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    file.write_text(json.dumps(MEASURED))
    text = run("47k", "--measured", str(file))

    assert "measured: 5,000 questions" in text
    assert "$34,290" in text
    assert "450,000 (1 %)" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["48k"], "'48k' is not one of '47k', '62k'"),
        (["--split", "small=62,large=10"], "its shares add up to 72.0%; they have to be 100 %"),
        (["--split", "small"], "'small' is no tier and figure; give them such as small=62,medium=28,large=10"),
        (["47k", "--split", "huge=100"], "--split: huge has no price in 47k; add it to --price, or name the tiers"),
        (["--price", "small=0"], "all are 0; the dearest tier needs a price"),
        (["--hit-rate", "1"], "--hit-rate"),
    ],
)
def test_options_that_cannot_be_are_refused(arguments: list[str], says: str) -> None:
    assert says in " ".join(run(*arguments).split())


def test_the_figures_in_the_docs_are_those_it_prints(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "costs.md").read_text("utf-8")
    claims, ours = page.split("## What others claim\n")[1].split("## The same at our own rates\n")
    rates = tmp_path / "rates.json"
    rates.write_text(json.dumps(OF_A_DESK))
    for section, arguments in ((claims, []), (ours, ["--measured", str(rates)])):
        said = re.findall(r"\$[\d,]+\d|[\d.]+ %", section)
        printed = " ".join(run(*arguments).split())
        assert len(said) > 5
        assert [figure for figure in said if figure not in printed] == []
