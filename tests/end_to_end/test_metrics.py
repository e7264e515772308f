"""Flink serves its own metrics, under the names that dashboards and alert rules use."""

import re
import urllib.request

from ..ops.test_dashboards import FLINK
from .conftest import RunningStack, eventually


def _served(running: RunningStack) -> str:
    """What JobManager and TaskManager serve."""
    port = running.config.metrics.flink_port
    pages: list[str] = []
    for number in (0, 1):
        with urllib.request.urlopen(f"http://localhost:{port + number}/metrics", timeout=5) as response:
            pages.append(response.read().decode())
    return "".join(pages)


def test_flinks_reporter_serves_what_dashboards_and_rules_use(running: RunningStack) -> None:
    eventually(lambda: set(re.findall(r"(?m)^flink_\w+", _served(running))) >= FLINK, f"{sorted(FLINK)} are served")


def test_the_batch_lanes_lag_is_told_apart(running: RunningStack) -> None:
    pending = re.findall(
        r'(?m)^flink_taskmanager_job_task_operator_pendingRecords\{.*?operator_name="([^"]+)"', _served(running)
    )
    assert [name for name in pending if re.fullmatch(".*requests_batch.*", name)]
    assert [name for name in pending if re.fullmatch(".*requests_interactive.*", name)]
