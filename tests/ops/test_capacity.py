"""Capacity: what a load takes follows from what a request was measured to cost, and from nothing else."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner
from forebay_ops.bench import costs as costs_bench
from forebay_ops.capacity.costs import Cost, Costs, read_costs
from forebay_ops.capacity.sizing import TASKMANAGER_GIB, Limits, Load, TierLoad, size
from forebay_ops.cli import forebay
from forebay_schemas.errors import ConfigError
from forebay_schemas.sections import SemanticConfig

ROOT = Path(__file__).parents[2]
PARTS = ("job_cpu_ms", "kafka_cpu_ms", "redis_cpu_ms", "worker_cpu_ms", "ledger_cpu_ms", "kafka_bytes", "redis_bytes")


def cost(job: float, kafka_bytes: float, redis_bytes: float) -> Cost:
    return Cost(
        job_cpu_ms=job, kafka_cpu_ms=0.1, redis_cpu_ms=0.02, worker_cpu_ms=0.5, ledger_cpu_ms=0.05,
        kafka_bytes=kafka_bytes, redis_bytes=redis_bytes,
    )  # fmt: skip


COSTS = Costs(
    exact=cost(0.2, 1_000, 100), semantic=cost(2, 1_000, 100), miss=cost(4, 5_000, 2_100), source="a test's own"
)
ROUND = Load(rate_per_s=1_000, exact=0.5, semantic=0.1)


def values(load: Load, **limits: Any) -> dict[str, str]:
    return {row.name: row.value for row in size(load, COSTS, Limits(**limits))}


def test_each_way_of_answering_counts_by_its_share_and_its_cost():
    found = values(ROUND, utilisation=0.5)
    # 1,000/s x (0.5 x 0.2 + 0.1 x 2 + 0.4 x 4) ms = 1.9 cores, of which each TaskManager may be half busy.
    assert found["job: cores busy"] == "1.9"
    assert found["TaskManagers of one slot"] == "4"
    assert found["memory of TaskManagers"] == "20 GiB"
    assert found["generated"] == "400/s"
    # 1,000/s x (0.6 x 1,000 + 0.4 x 5,000) bytes x 3 copies, for 72 h.
    assert found["Kafka: written"] == "7.8 MB/s"
    assert found["Kafka: disk"] == "2.02 TB"
    # 1,000/s x (100 bytes x 600 s + 0.4 x 2,000 bytes x 86,400 s).
    assert found["Redis: memory"] == "69.2 GB"
    # More is asked in a day than the index keeps.
    assert found["index: questions kept"] == "1,000,000"
    assert found["index: memory"] == "576 MB"


def test_workers_follow_from_tokens():
    tiers = {"small": TierLoad(0.75, 100, 2_000), "large": TierLoad(0.25, 400, 1_000)}
    load = Load(rate_per_s=1_000, exact=0.5, semantic=0.1, tiers=tiers)
    found = values(load, utilisation=0.8)
    assert found["workers of small"] == "19"  # 400/s x 0.75 x 100 tokens = 30,000 a second: 15 workers, 80 % busy
    assert found["workers of large"] == "50"
    assert found["partitions of each"] == "50"  # a worker without one would have nothing to do


def test_one_installation_grows_to_the_slots_that_its_state_can_be_spread_over():
    # A TaskManager carries 263 such requests a second at half a core.
    assert values(Load(rate_per_s=33_600, exact=0.5, semantic=0.1), utilisation=0.5)["installations"] == "4"
    small = values(Load(rate_per_s=4_000, exact=0.5, semantic=0.1), utilisation=0.5)
    assert (small["TaskManagers of one slot"], small["installations"]) == ("16", "1")
    assert small["partitions of each"] == "16"


def test_a_taskmanager_takes_the_memory_that_the_deployment_gives_it():
    documents = yaml.safe_load_all((ROOT / "ops" / "kubernetes" / "base" / "job.yaml").read_text())
    spec = next(one["spec"] for one in documents if one["kind"] == "FlinkDeployment")
    mebibytes = float(spec["taskManager"]["resource"]["memory"].removesuffix("m"))
    beyond = float(spec["flinkConfiguration"]["kubernetes.taskmanager.memory.limit-factor"])
    assert mebibytes * beyond / 1024 == TASKMANAGER_GIB


def test_the_index_keeps_what_the_settings_say():
    assert Limits().index_entries == SemanticConfig().max_entries


def test_every_figure_shows_its_arithmetic():
    rows = {row.name: row.how for row in size(ROUND, COSTS, Limits(utilisation=0.5))}
    assert rows["job: cores busy"] == "1,000/s x (0.5 x 0.2 + 0.1 x 2 + 0.4 x 4) ms"
    assert rows["TaskManagers of one slot"] == "1.9 / 0.5; each 48% busy"
    assert all(rows.values())


def report(**changes: Any) -> dict[str, Any]:
    """What `forebay bench costs --out` writes, as far as it is read."""
    figures = [
        {"metric": part, "side": side, "median": msgspec.structs.asdict(getattr(COSTS, side))[part]}
        for side in ("exact", "semantic", "miss")
        for part in PARTS
    ]
    machine = {"processor": "a processor", "cores": 2}
    return {"bench": "costs", "measured_at": "2026-01-02T03:04:05Z", "machine": machine, "figures": figures} | changes


def invoke(*words: str) -> str:
    runner = CliRunner(env={"COLUMNS": "118"})  # as the page is wide
    result = runner.invoke(forebay, ["capacity", *words], catch_exceptions=False, standalone_mode=False)
    return result.output


def test_the_command_takes_a_measurement_of_your_own(tmp_path: Path):
    file, out = tmp_path / "costs.json", tmp_path / "sizes.json"
    file.write_text(json.dumps(report()))
    words = ["--rate", "1000", "--exact", "0.5", "--semantic", "0.1", "--utilisation", "0.5"]
    text = invoke(*words, "--tier", "small=1,100,2000", "--costs", str(file), "--json", str(out))
    assert "2026-01-02, 2 cores of a processor" in text
    assert "1,000 requests a second" in text
    written = {row["name"]: row["value"] for row in json.loads(out.read_bytes())["1000"]}
    assert written["TaskManagers of one slot"] == "4"
    assert written["workers of small"] == "40"


def test_a_file_that_holds_no_costs_is_named_with_the_mend(tmp_path: Path):
    file = tmp_path / "other.json"
    file.write_text(json.dumps(report(figures=[])))
    with pytest.raises(ConfigError, match=r"other\.json holds no costs of requests .* `forebay bench costs --out"):
        read_costs(file)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--exact", "0.8", "--semantic", "0.3"], "shares of the same requests"),
        (["--tier", "small=0.5,100"], "NAME=SHARE,TOKENS,TOKENS_PER_S"),
        (["--tier", "small=0.5,100,200"], "the shares come to 0.5"),
        (["--tier", "small=1,100,0"], "answers nothing"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], problem: str):
    result = CliRunner().invoke(forebay, ["capacity", *words])
    assert result.exit_code != 0
    assert problem in result.output


def test_the_costs_that_come_with_the_package_are_those_that_the_page_quotes():
    shipped = read_costs()
    page = (ROOT / "docs" / "capacity.md").read_text()
    assert shipped.source in page
    text = invoke("--rate", "10000")
    for line in text.splitlines():
        assert line.rstrip() in page


def test_the_benchmark_measures_what_is_read():
    assert {f"{part}_cpu_ms" for part in costs_bench.PARTS} | {"kafka_bytes", "redis_bytes"} == set(PARTS)
    assert set(Costs.__struct_fields__) == {costs_bench.EXACT, costs_bench.SEMANTIC, costs_bench.MISS, "source"}
