"""A real Prometheus scrapes what all parts serve: panels show data, rules load, exemplars are kept."""

import contextlib
import html
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from forebay_ops.cli import forebay
from forebay_ops.local.effective import port_is_free
from forebay_schemas.errors import ErrorCode, ForebayError
from forebay_schemas.metrics import (
    GatewayMetrics,
    JobMetrics,
    LedgerMetrics,
    ReplyMetrics,
    RolloutMetrics,
    WorkerMetrics,
)
from forebay_schemas.records import CacheStatus, Lane, Latency, ReplyError, Usage
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from ..builders import make_reply
from .test_dashboards import ALERTS, DASHBOARDS, FLINK, OPS, RULES, expressions, filled_in, panels

pytestmark = pytest.mark.stack

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FAILED = ReplyError(code=ErrorCode.INTERNAL, message="why", retryable=True)


class Traffic:
    """Made-up traffic in the metrics of all parts and of Flink, each served apart."""

    def __init__(self) -> None:
        self._servers: list[Any] = []
        self.ports: dict[str, int] = {}
        self.job, self.worker = JobMetrics(self._serve("forebay-job")), WorkerMetrics(self._serve("forebay-worker"))
        self.ledger = LedgerMetrics(self._serve("forebay-ledger"))
        self.rollouts = RolloutMetrics(self._serve("forebay-rollouts"))
        self.gateway = GatewayMetrics(self._serve("forebay-gateway"))
        flink = self._serve("flink")
        self.flink = [Gauge(name, "Flink's own.", ["operator_name", "task_name"], registry=flink) for name in FLINK]

    def _serve(self, job: str) -> CollectorRegistry:
        registry = CollectorRegistry()
        server, _ = start_http_server(0, "127.0.0.1", registry)
        self._servers.append(server)
        self.ports[job] = server.server_port
        return registry

    def pass_by(self) -> None:
        """Let every metric grow once, with every label that a panel asks for."""
        for kind in (self.job, self.worker, self.ledger, self.rollouts, self.gateway):
            for metric in vars(kind).values():
                if not isinstance(metric, ReplyMetrics):
                    _grow(metric)
        for gauge in self.flink:
            gauge.labels("Source:_requests_interactive_1_", "desk").set(40)
        for status in CacheStatus:
            made = status in (CacheStatus.MISS, CacheStatus.BYPASS)
            timed = Latency(total_ms=300.0, generation_ms=200.0, first_token_ms=50.0 if made else None)
            reply = make_reply(
                cache_status=status,
                lane=Lane.INTERACTIVE,
                usage=Usage(prompt_tokens=30, completion_tokens=10),
                tier="small",
                latency=timed,
                cost=0.01 * made,
                baseline_cost=0.5,
            )
            (self.worker if made else self.job).replies.count(reply, TRACEPARENT)
        self.job.replies.count(make_reply(cache_status=CacheStatus.BYPASS, error=FAILED))

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


def _grow(metric: Any) -> None:
    names = metric._labelnames
    labels = _LABELS | (_OF_REUSE if metric._name.startswith("forebay_reuse_") else {})
    child = metric.labels(*(labels.get(name, "x") for name in names)) if names else metric
    child.observe(0.5) if hasattr(child, "observe") else child.inc()
    if "kind" in names:
        for kind in ("prompt", "cached_prompt", "completion"):
            metric.labels("small", kind).inc()
    if metric._name == "forebay_audits":
        for outcome in ("agrees", "differs"):
            metric.labels("tier_above", "support", "small", outcome).inc()


_LABELS = {
    "lane": "interactive", "tier": "small", "verdict": "down", "source": "user", "age": "within",
    "path": "/v1/chat/completions", "status": "200",
}  # fmt: skip
_OF_REUSE = {"policy": "bounded", "verdict": "reused", "outcome": "wrong", "source": "feedback"}


class Prometheus:
    """A Prometheus of this test's own, with the project's rules."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        port = next(port for port in range(19_090, 20_000) if port_is_free(port))
        self.url = f"http://127.0.0.1:{port}"
        config = yaml.safe_load((OPS / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "500ms"}
        config["rule_files"] = [str(ALERTS)]
        jobs = {job["job_name"] for job in config["scrape_configs"]}
        assert jobs == ports.keys()
        config["scrape_configs"] = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in ports.items()
        ]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.log = folder / "prometheus.log"
        command = [
            "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage",
        ]  # fmt: skip
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, path: str, **query: Any) -> Any:
        """The data of an answer of its API; an error that it tells is raised."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, expression: str) -> list[float]:
        """The values of an expression now."""
        return [float(one["value"][1]) for one in self.ask("query", query=expression)["result"]]

    def until(self, met: Callable[[], bool], what: str) -> None:
        """Wait for a condition while traffic goes on."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with contextlib.suppress(OSError):  # it is still starting
                if met():
                    return
            threading.Event().wait(0.1)
        pytest.fail(f"{what}:\n{self.log.read_text()}")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    traffic = Traffic()
    traffic.pass_by()
    found = Prometheus(tmp_path_factory.mktemp("prometheus"), traffic.ports)
    try:

        def grown() -> bool:
            traffic.pass_by()
            return bool(found.values("rate(forebay_endpoint_replies_total[5s]) > 0")) and bool(
                found.values("count_over_time(up[10s]) > 20")
            )

        found.until(grown, "Prometheus did not scrape")
        yield found
    finally:
        found.stop()
        traffic.close()


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_every_panel_shows_data(prometheus: Prometheus, file: Path):
    for expression in expressions(file):
        values = prometheus.values(filled_in(expression, "10s"))
        assert values or " offset " in expression, expression  # nobody was there a day ago


def test_the_figures_of_the_first_panels_are_those_of_the_traffic(prometheus: Prometheus):
    first = expressions(OPS / "grafana" / "dashboards" / "overview.json")[:7]
    hits, spent, baseline, model, reused, generated, first_token = (
        prometheus.values(filled_in(expression, "10s")) for expression in first
    )
    assert hits == pytest.approx([0.2, 0.2, 0.2], rel=0.05)  # of five good replies each time, two are generated
    assert baseline[0] / spent[0] == pytest.approx(5 * 0.5 / (2 * 0.01), rel=0.05)
    assert model == [1.0]
    assert max(reused[0], generated[0]) <= 0.35
    assert 0.125 < first_token[0] <= 0.25  # 300 ms in all, of which 200 were the generation's, and 50 its first token's


def test_every_rule_loads_and_can_be_evaluated(prometheus: Prometheus):
    def loaded() -> list[dict[str, Any]]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    prometheus.until(lambda: all(rule["health"] != "unknown" for rule in loaded()), "rules were not evaluated")
    assert {rule["name"] for rule in loaded()} == {rule["alert"] for rule in RULES}
    assert {rule["health"] for rule in loaded()} == {"ok"}, [rule.get("lastError") for rule in loaded()]


def test_an_exemplar_leads_from_a_latency_to_a_trace(prometheus: Prometheus):
    now_s = time.time()
    found = prometheus.ask("query_exemplars", query="forebay_reply_latency_seconds_bucket", start=now_s - 60, end=now_s)
    traces = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
    assert traces == {TRACEPARENT.split("-")[1]}


def test_the_page_draws_every_panel_with_its_data(prometheus: Prometheus, tmp_path: Path):
    arguments = ["--prometheus", prometheus.url, "--since", "60s", "--scraped-every", "0.2"]
    file = tmp_path / "page.html"
    result = CliRunner().invoke(forebay, ["dashboards", *arguments, "--out", str(file)], catch_exceptions=False)
    assert result.exit_code == 0
    page = html.unescape(file.read_text())
    shown = [panel for board in DASHBOARDS for panel in panels(board)]
    for panel in shown:
        assert f"<h3>{panel['title']}</h3>" in page
    assert page.count("<svg") == sum(panel["type"] == "timeseries" for panel in shown)
    assert "No data" not in page
    first = page[page.index("<h3>Cache hit rates") : page.index("<h3>Cost trend")]
    most = dict(re.findall(r"</span>(\w+)</td><td>[\d.]+%</td><td>([\d.]+)%</td>", first))
    assert most.keys() == {"exact", "semantic", "joined"}
    assert all(0 < float(share) <= 100 for share in most.values())


def test_a_server_that_is_no_prometheus_is_named(tmp_path: Path):
    command = ["dashboards", "--prometheus", "http://127.0.0.1:9", "--out", str(tmp_path / "page.html")]
    with pytest.raises(ForebayError, match=r"http://127\.0\.0\.1:9 does not answer as a Prometheus does"):
        CliRunner().invoke(forebay, command, catch_exceptions=False, standalone_mode=False)
