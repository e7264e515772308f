"""`forebay top`: where it finds the parts, what it prints without a terminal, and its keys on one."""

import json
import os
import pty
import select
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from forebay_ops.cli import forebay
from forebay_ops.top import backlog
from forebay_ops.top.scrape import Metric, scrape, targets
from forebay_schemas.config import load_config
from forebay_schemas.errors import ConfigError
from forebay_schemas.records import CacheStatus
from forebay_schemas.sections import MetricsConfig
from prometheus_client import start_http_server

from .top_doubles import Job, Ledger, Worker, answer

NOBODY = "127.0.0.1:9"


class Served:
    """A job, a worker and a ledger that serve their metrics."""

    def __init__(self) -> None:
        self.job, self.worker = Job(), Worker()
        parts = (self.job, self.worker, Ledger())
        self._servers = [start_http_server(0, "127.0.0.1", part.registry)[0] for part in parts]

    @property
    def names(self) -> list[str]:
        return [f"127.0.0.1:{server.server_port}" for server in self._servers]

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The parts, and an environment in which they are found; no broker runs."""
    parts = Served()
    job, worker, ledger = parts.names
    monkeypatch.setenv("FOREBAY_HOME", str(tmp_path))
    monkeypatch.setenv("FOREBAY_METRICS__JOB_TARGETS", json.dumps([job]))
    monkeypatch.setenv("FOREBAY_METRICS__WORKER_TARGETS", json.dumps([worker, NOBODY]))
    monkeypatch.setenv("FOREBAY_METRICS__LEDGER_TARGETS", json.dumps([ledger]))
    monkeypatch.setenv("FOREBAY_KAFKA__BOOTSTRAP", NOBODY)
    monkeypatch.setattr(backlog, "_TIMEOUT_S", 0.1)
    yield parts
    parts.close()


def _top(*arguments: str) -> Result:
    return CliRunner().invoke(forebay, ["top", "--every", "0.2", *arguments])


def test_json_holds_every_part_and_figure(served: Served) -> None:
    answer(served.job, 3, CacheStatus.EXACT)
    result = _top("--json")
    found = json.loads(result.output)
    assert {(part["name"], part["address"]): part["up"] for part in found["parts"]} == {
        ("job", served.names[0]): True,
        ("worker", served.names[1]): True,
        ("worker", NOBODY): False,
        ("ledger", served.names[2]): True,
        ("kafka", NOBODY): False,
    }
    assert found["answers"][0] == {
        "answered_by": "exact", "per_s": 0.0, "share": None, "p50_ms": None, "p95_ms": None, "p99_ms": None,
    }  # fmt: skip
    assert found["topics"] is None
    assert found["window_s"] >= 0.2
    assert result.exit_code == 1  # something is away


def test_once_prints_the_tables(served: Served) -> None:
    output = _top("--once").output
    assert "away: worker (1 of 2), kafka" in output
    assert "no errors" in output  # the last line


def test_without_a_terminal_it_says_what_to_do(served: Served) -> None:
    result = _top()
    assert result.exit_code == 2
    assert "--once or --json" in result.output


def test_only_what_is_shown_is_asked_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    collect = served.job.registry.restricted_registry
    monkeypatch.setattr(served.job.registry, "restricted_registry", lambda names: asked.extend(names) or collect(names))
    _top("--json")
    assert set(asked) == {*Metric}


# --- where the parts are


def test_a_name_stands_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"workers": ["10.0.0.2", "10.0.0.1"], "job": ["10.0.0.9"]}

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    found = targets(MetricsConfig(job_targets=["job"], worker_targets=["workers:9200", "gone"], ledger_targets=[]))
    assert [(each.kind, each.name, each.address) for each in found] == [
        ("job", "job:9101", ("10.0.0.9", 9101)),
        ("worker", "10.0.0.1:9200", ("10.0.0.1", 9200)),
        ("worker", "10.0.0.2:9200", ("10.0.0.2", 9200)),
        ("worker", "gone:9102", None),
    ]
    assert scrape(found[-1]) is None


def test_a_target_is_host_and_port_and_no_address_of_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_METRICS__JOB_TARGETS", '["http://job:9101/metrics"]')
    with pytest.raises(ConfigError, match=r"metrics\.job_targets\.0"):
        load_config()


# --- on a terminal


class Terminal:
    """`forebay top` on a terminal of 24 lines, and what it has drawn."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        command = [sys.executable, "-c", "from forebay_ops.cli import main; main()", "top", "--every", "0.2"]
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        self.drawn = ""

    @property
    def echoes(self) -> bool:
        """Whether it shows what is typed, as it did before."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def until(self, text: str) -> None:
        """Wait until it draws this, from now on."""
        self.drawn = ""
        end = time.monotonic() + 60
        while text not in self.drawn:
            assert time.monotonic() < end, f"{text!r} was not drawn: {self.drawn[-3000:]}"
            if select.select([self._master], [], [], 1.0)[0]:
                self.drawn += os.read(self._master, 65536).decode(errors="replace")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.mark.stack
def test_keys_move_pause_and_end_it(served: Served) -> None:
    with ExitStack() as stack:
        terminal = Terminal()
        stack.callback(terminal.close)
        terminal.until("answered by")
        assert "away: worker (1 of 2), kafka" in terminal.drawn
        terminal.press("p")
        terminal.until("PAUSED")
        terminal.press("p" + "\x1b[B" * 30)
        terminal.until("no errors")  # the last line
        terminal.press("q")
        terminal.until("\x1b[?1049l")  # the screen of before
        assert terminal.process.wait(10) == 0
        assert terminal.echoes
