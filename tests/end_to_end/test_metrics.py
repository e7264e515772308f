"""Flink serves its own metrics, under the names that dashboards and alert rules use; `forebay top` sees every part."""

import contextlib
import http.client
import re
import urllib.request

import pytest
from forebay_ops.top.look import Looker
from forebay_ops.top.snapshot import Snapshot, snapshot
from forebay_schemas.records import CacheOptions, CachePolicy

from ..ops.test_dashboards import FLINK
from ..waiting import eventually
from .conftest import RunningStack


def _served(running: RunningStack) -> str:
    """What JobManager and TaskManager serve; while a job starts, Flink breaks some of the connections off."""
    port = running.config.metrics.flink_port
    pages: list[str] = []
    for number in (0, 1):
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            urllib.request.urlopen(f"http://localhost:{port + number}/metrics", timeout=5) as response,
        ):
            pages.append(response.read().decode())
    return "".join(pages)


@pytest.fixture(autouse=True, scope="module")
def _traffic(running: RunningStack) -> None:
    """One request on each lane: a source tells its lag from its first record on."""
    with running.client(tenant="north") as client:
        for lane in ("interactive", "batch"):
            client.ask("What is a penstock?", lane=lane, timeout_s=60)


def test_flinks_reporter_serves_what_dashboards_and_rules_use(running: RunningStack) -> None:
    eventually(lambda: set(re.findall(r"(?m)^flink_\w+", _served(running))) >= FLINK, f"{sorted(FLINK)} are served")


def _sources(running: RunningStack) -> list[str]:
    """The names of the sources that tell how many records wait for them."""
    return re.findall(
        r'(?m)^flink_taskmanager_job_task_operator_pendingRecords\{.*?operator_name="([^"]+)"', _served(running)
    )


def test_the_batch_lanes_lag_is_told_apart(running: RunningStack) -> None:
    for name in ("requests_batch", "requests_interactive"):
        eventually(
            lambda name=name: any(name in source for source in _sources(running)),
            f"{name} is among the sources that tell their lag",
        )


def test_top_sees_every_part_and_the_requests(running: RunningStack) -> None:
    looker = Looker(running.config)
    looks = [looker.look()]
    with running.client(tenant="north") as client:
        client.ask("What is a forebay?", cache=CacheOptions(policy=CachePolicy.BYPASS), timeout_s=60)

        def answered() -> Snapshot | None:
            looks.append(looker.look())
            found = snapshot(looks, running.config)
            return found if any(row.answers_per_s for row in found.tiers) else None

        found = eventually(answered, "the answer is counted")
    assert all(part.up for part in found.parts)
    assert {row.answered_by for row in found.answers if row.per_s} == {"bypass"}
    assert any(row.tasks_per_s for row in found.tiers)
    assert any(topic.written_per_s for topic in found.topics or ())
