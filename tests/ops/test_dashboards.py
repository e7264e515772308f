"""Dashboards show only metrics that exist, from the data source that is provisioned."""

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


def panels(file: Path) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(file.read_text())["panels"] if panel["type"] != "row"]


def expressions(file: Path) -> list[str]:
    return [target["expr"] for panel in panels(file) for target in panel["targets"]]


def needs_promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed")
    return found


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_names_only_metrics_that_exist(file: Path):
    named = {name for expression in expressions(file) for name in re.findall(r"\bforebay_\w+", expression)}
    assert named
    assert named <= fqnames()


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
    promtool = needs_promtool()
    asked = [expression for file in DASHBOARDS for expression in expressions(file)]
    rules = [
        {"record": f"dashboard:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(asked)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    subprocess.run([promtool, "check", "rules", "--lint=none", str(tmp_path / "rules.yml")], check=True)


def test_prometheus_accepts_its_configuration():
    subprocess.run([needs_promtool(), "check", "config", str(OPS / "prometheus" / "prometheus.yml")], check=True)
