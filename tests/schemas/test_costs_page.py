"""docs/costs.md: its configuration loads, and every figure on it is what the code computes."""

import re
from pathlib import Path

import pytest
from forebay_schemas.config import Config, load_config
from forebay_schemas.prices import baseline_cost, cost
from forebay_schemas.records import CacheStatus, Lane, Usage
from forebay_schemas.tiers import GpuHourPrice, Price

PAGE = (Path(__file__).parents[2] / "docs" / "costs.md").read_text("utf-8")
USAGE = Usage(prompt_tokens=1000, cached_prompt_tokens=600, completion_tokens=200)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "forebay.toml"
    [toml] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    file.write_text(toml)
    return load_config(file)


def rows(header: str) -> list[list[str]]:
    """The cells of the table whose header line begins so."""
    table = PAGE.split(f"\n| {header}")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_the_gpu_hour_comes_to_the_prices_it_says(config: Config) -> None:
    price = config.price("small")
    said = {kind: float(dollars) for kind, dollars in rows("1,000 tokens")}

    assert said == {
        "input": round(price.input_per_1k, 9),
        "cached input": price.cached_input_per_1k,
        "output": round(price.output_per_1k, 9),
    }


def test_every_field_of_both_ways_is_in_its_table() -> None:
    per_1k = {cells[0].strip("`") for cells in rows("field | US dollars")}
    by_hour = {cells[0].strip("`") for cells in rows("field | meaning")}

    assert per_1k == Price.model_fields.keys() - {"batch_factor"}
    assert by_hour == GpuHourPrice.model_fields.keys() - {"batch_factor"}


def test_every_cache_status_is_in_the_table() -> None:
    assert [cells[0].strip("`") for cells in rows("`cache_status`")] == [status.value for status in CacheStatus]


def _spent(generations: str, config: Config) -> float:
    """Dollars of generations as the table writes them: ``small + large``, ``small, batch``, ``none``."""
    if generations == "none":
        return 0.0
    tiers, _, lane = generations.partition(", ")
    return sum(cost(USAGE, config.price(tier), Lane(lane or "interactive")) for tier in tiers.split(" + "))


@pytest.mark.parametrize("row", rows("reply"), ids=lambda row: row[0])
def test_an_example_costs_what_it_says(row: list[str], config: Config) -> None:
    _, generations, said, baseline = row

    assert float(said) == pytest.approx(_spent(generations, config), abs=5e-10)
    assert float(baseline) == pytest.approx(baseline_cost(USAGE, config))


def test_the_month_adds_up(config: Config) -> None:
    models = 10_000 * (_spent("small", config) + _spent("large", config))
    fixed = sum(config.costs.fixed_monthly_usd.values())
    baseline = 40_000 * baseline_cost(USAGE, config)

    text = " ".join(PAGE.split())
    assert f"{models:.2f} US dollars of models and {fixed:.2f} of fixed costs, against {baseline:.2f}" in text
    assert f"ten times as much costs {10 * models + fixed:.2f} against {10 * baseline:,.2f}" in text
