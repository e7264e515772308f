"""Dashboards and alert rules use only metrics that exist; panels, rules and runbooks are complete."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from forebay_schemas.metrics import fqnames

OPS = Path(__file__).parents[2] / "ops"
DASHBOARDS = sorted((OPS / "grafana" / "dashboards").glob("*.json"))
ALERTS = OPS / "prometheus" / "alerts.yml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]

PLAYED = sorted(Path(__file__).parent.glob("alerts_*test.yml"))

FLINK = {
    "flink_jobmanager_job_lastCheckpointDuration",
    "flink_jobmanager_job_numRestarts",
    "flink_jobmanager_job_numberOfFailedCheckpoints",
    "flink_taskmanager_Status_JVM_Memory_Heap_Used",
    "flink_taskmanager_job_task_busyTimeMsPerSecond",
    "flink_taskmanager_job_task_operator_pendingRecords",
}
"""What Flink's reporter serves under these names; `tests/end_to_end/test_metrics.py` asks a real one."""


def panels(file: Path) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(file.read_text())["panels"] if panel["type"] != "row"]


def expressions(file: Path) -> list[str]:
    return [target["expr"] for panel in panels(file) for target in panel["targets"]]


def filled_in(expression: str, interval: str = "1m") -> str:
    """An expression as Grafana sends it."""
    return expression.replace("$__rate_interval", interval).replace("$__range", "1h")


def names(expression: str) -> set[str]:
    """The metrics in an expression, which all begin with who serves them."""
    return set(re.findall(r"\b(?:forebay|flink)_\w+", expression))


def promtool(*arguments: str | Path) -> None:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_names_only_metrics_that_exist(file: Path):
    for expression in expressions(file):
        assert names(expression)
        assert names(expression) <= fqnames() | FLINK


def test_the_overview_begins_with_hits_cost_models_and_latency():
    overview = next(file for file in DASHBOARDS if file.stem == "overview")
    first = json.loads(overview.read_text())["panels"][:4]
    assert [panel["title"] for panel in first] == [
        "Cache hit rates", "Cost trend", "Model distribution", "P99 latency",
    ]  # fmt: skip


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_legend_tells_the_lines_of_a_panel_apart(file: Path):
    for panel in panels(file):
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert all(legends), panel["title"]
        assert len(set(legends)) == len(legends), panel["title"]
        for target in panel["targets"]:
            grouped = {label for by in re.findall(r"by \(([^)]+)\)", target["expr"]) for label in by.split(", ")}
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown == grouped - {"le"}, f"{panel['title']}: {target['expr']}"


def test_dashboards_have_addresses_and_panels_numbers_of_their_own():
    boards = [json.loads(file.read_text()) for file in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len({board["title"] for board in boards}) == len(boards)
    for board in boards:
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_panel_says_what_it_shows_and_lies_beside_the_others(file: Path):
    taken: set[tuple[int, int]] = set()
    for panel in panels(file):
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_panels_ask_the_provisioned_data_source():
    provisioned = yaml.safe_load((OPS / "grafana/provisioning/datasources/prometheus.yml").read_text())
    uids = {source["uid"] for source in provisioned["datasources"]}
    for file in DASHBOARDS:
        assert {panel["datasource"]["uid"] for panel in panels(file)} <= uids


def test_the_dashboards_folder_is_the_one_that_is_mounted():
    provider = yaml.safe_load((OPS / "grafana/provisioning/dashboards/forebay.yml").read_text())["providers"][0]
    grafana = yaml.safe_load((OPS.parent / "docker-compose.yml").read_text())["services"]["grafana"]
    folder = provider["options"]["path"]
    assert f"./ops/grafana/dashboards:{folder}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in {f"{folder}/{file.name}" for file in DASHBOARDS}


def test_prometheus_accepts_every_expression(tmp_path: Path):
    asked = [expression for file in DASHBOARDS for expression in expressions(file)]
    rules = [
        {"record": f"dashboard:{number}", "expr": filled_in(expression)} for number, expression in enumerate(asked)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", tmp_path / "rules.yml")


def test_prometheus_accepts_its_configuration_and_rules():
    promtool("check", "config", OPS / "prometheus" / "prometheus.yml")


# Alerts


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_says_what_is_wrong_for_how_long_and_where_to_read_on(rule: dict[str, Any]):
    assert rule["for"]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith(".")
    file, _, section = rule["annotations"]["runbook"].partition("#")
    assert section == rule["alert"].lower()
    text = (OPS.parent / file).read_text().split(f"## {rule['alert']}\n")[1].split("\n## ")[0]
    assert all(f"**{part}:**" in text for part in ("Means", "Look at", "Do"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_names_only_metrics_that_exist(rule: dict[str, Any]):
    assert names(rule["expr"]) <= fqnames() | FLINK
    assert names(rule["expr"]) or "up{" in rule["expr"]


def test_the_runbooks_are_those_of_the_rules():
    sections = re.findall(r"^## (\w+)$", (OPS / "runbooks.md").read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(rule["alert"] for rule in RULES)


@pytest.mark.stack
@pytest.mark.parametrize("file", PLAYED, ids=lambda file: file.stem)
def test_rules_fire_when_they_should_and_only_then(file: Path):
    assert names(file.read_text()) <= fqnames() | FLINK
    promtool("test", "rules", file)
