"""The command as a process: it says what it needs, serves, and ends when it is told to."""

import json
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from forebay_ops.local.effective import with_free_ports
from forebay_schemas.config import Config, load_config

from tests.authority import Authority
from tests.waiting import eventually

pytestmark = pytest.mark.stack


@pytest.fixture
def free() -> Config:
    return with_free_ports(load_config())


def started(config: Config, **gateway: Any) -> "subprocess.Popen[str]":
    settings = {"PORT": config.gateway.port, **gateway}
    environment = {f"FOREBAY_GATEWAY__{name}": str(value) for name, value in settings.items()}
    environment |= {"FOREBAY_METRICS__GATEWAY_PORT": str(config.metrics.gateway_port), "FOREBAY_HOME": "/nowhere"}
    command = [sys.executable, "-m", "forebay_ops.cli", "gateway"]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)


def answers(config: Config) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{config.gateway.port}/healthz").is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(free: Config, ending: signal.Signals) -> None:
    process = started(free)
    try:
        eventually(lambda: answers(free), "it serves", 60)
        metrics = httpx.get(f"http://127.0.0.1:{free.metrics.gateway_port}/metrics").text
        assert 'forebay_gateway_calls_total{path="/healthz",status="200"}' in metrics
        assert httpx.get(f"http://127.0.0.1:{free.gateway.port}/readyz").status_code == 503  # no broker is there
        other = started(free)
        assert "cannot be listened on" in other.communicate(timeout=60)[1]
        assert other.returncode == 1
        process.send_signal(ending)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_without_keys_it_refuses_an_address_that_others_reach(free: Config, tmp_path: Path) -> None:
    process = started(free, HOST="0.0.0.0")
    assert "anybody could spend your money" in process.communicate(timeout=60)[1]
    assert process.returncode == 1


def test_only_callers_with_a_certificate_of_its_authority_are_let_in(free: Config, tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    files = {"certificate_file": str(ours.signed("gateway")), "client_ca_file": str(ours.ca_file)}
    process = started(free, TLS=json.dumps(files))
    address = f"https://localhost:{free.gateway.port}/healthz"

    def shown(certificate: Path | None) -> httpx.Response:
        context = ssl.create_default_context(cafile=ours.ca_file)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return httpx.get(address, verify=context)

    def lets_in(certificate: Path | None) -> bool:
        try:
            return shown(certificate).is_success
        except httpx.TransportError:
            return False

    try:
        eventually(lambda: lets_in(ours.signed("service")), "it serves who shows a certificate", 60)
        for certificate in (None, theirs.signed("service")):
            with pytest.raises(httpx.TransportError):
                shown(certificate)
        with pytest.raises(httpx.TransportError):
            httpx.get(address.replace("https", "http"))
    finally:
        process.kill()
        process.communicate()


def test_a_certificate_without_a_key_is_refused(free: Config, tmp_path: Path) -> None:
    process = started(free, TLS=json.dumps({"certificate_file": str(Authority(tmp_path / "ours").ca_file)}))
    assert "gateway.tls: a file cannot be used" in process.communicate(timeout=60)[1]
    assert process.returncode == 1
