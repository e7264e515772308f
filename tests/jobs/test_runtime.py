"""What a TaskManager's operators share: built once, and replaced when a job comes with another configuration."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from forebay_jobs import rollout_log
from forebay_jobs import runtime as runtime_module
from forebay_jobs.runtime import runtime_for
from forebay_schemas.config import Config, load_config
from pydantic import SecretStr

from tests.jobs.doubles import LetterEmbedder, configured


@pytest.fixture(autouse=True)
def _process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runtime_module, "_current", None)
    monkeypatch.setattr(runtime_module, "_log_to_stderr", lambda _: None)
    monkeypatch.setattr(rollout_log, "_RPC_TIMEOUT_S", 0.1)  # no broker is there
    monkeypatch.setattr(runtime_module, "_ROLLOUTS_KNOWN_S", 0.1)
    monkeypatch.setattr(runtime_module, "Embedder", lambda settings, metrics: LetterEmbedder())
    yield
    if runtime_module._current is not None:
        runtime_module._current.close()


def _config(folder: Path) -> Config:
    return configured(metrics={"job_port": 0}, semantic={"path": folder})


def test_all_operators_of_a_job_share_one_runtime(tmp_path: Path) -> None:
    runtime = runtime_for(_config(tmp_path))
    assert runtime_for(_config(tmp_path)) is runtime
    assert runtime.semantic is runtime.semantic


def test_a_job_with_another_configuration_takes_over_index_and_metrics(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge", reason="qdrant-edge-py is not installed")
    before = runtime_for(_config(tmp_path))
    assert before.semantic
    changed = _config(tmp_path).model_copy(
        update={"batch": load_config().batch.model_copy(update={"busy_rate_per_s": 1})}
    )
    after = runtime_for(changed)
    assert after is not before
    assert after.semantic is not before.semantic  # the folder was free again
    assert after.metrics is before.metrics  # the registry takes each name once


def test_a_changed_secret_is_a_changed_configuration(tmp_path: Path) -> None:
    config = _config(tmp_path)
    before = runtime_for(config)
    redis = config.redis.model_copy(update={"url": SecretStr("redis://elsewhere:6379/0")})
    assert runtime_for(config.model_copy(update={"redis": redis})) is not before


def test_a_metrics_port_that_is_taken_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken, caplog.at_level(logging.ERROR):
        port = taken.getsockname()[1]
        assert runtime_for(configured(metrics={"job_port": port}, semantic={"path": tmp_path})).answers
    assert f"cannot serve metrics on {port}" in caplog.text
