"""The nightly example as a newcomer runs it: killed twice, and each row is asked and answered once."""

import csv
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from forebay_schemas.records import Chunk, Lane, Reply, Request

from tests.waiting import eventually

from .stand_in import StandIn, echo

pytestmark = pytest.mark.stack

FOLDER = Path(__file__).parents[2] / "examples" / "nightly_enrichment"
ROWS = 2_000


class Night:
    """The command, run as often as it takes."""

    def __init__(self, tickets: Path, settings: Path) -> None:
        self._command = [str(FOLDER / "enrich.sh"), str(tickets)]
        scripts = str(Path(sys.executable).parent)  # where `forebay` is
        self._environment = os.environ | {
            "FOREBAY_CONFIG": str(settings),
            "XDG_CACHE_HOME": str(tickets.parent / "cache"),
            "PATH": f"{scripts}:{os.environ['PATH']}",
        }

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, env=self._environment)

    def finish(self) -> int:
        """Run it to its end; its exit code."""
        return subprocess.run(self._command, env=self._environment, timeout=180, check=False).returncode


def test_killed_twice_it_asks_and_answers_each_row_once(settings: Path, pipeline: StandIn, tmp_path: Path) -> None:
    tickets = tmp_path / "tickets.csv"
    with tickets.open("w") as file:
        subprocess.run([sys.executable, str(FOLDER / "make_tickets.py"), str(ROWS)], stdout=file, check=True)
    killed_twice = threading.Event()

    def answer(request: Request) -> Sequence[Reply | Chunk]:
        if len(pipeline.read(Request)) == ROWS // 2:
            killed_twice.wait(120)
        return echo(request)

    pipeline.answer = answer
    night = Night(tickets, settings)
    for rows in (1, ROWS // 2):  # as soon as anything is sent, and with one half answered
        process = night.start()
        eventually(lambda rows=rows: len(pipeline.read(Request)) >= rows, f"{rows} rows are sent")
        process.kill()
        process.wait()
    killed_twice.set()
    assert night.finish() == 0

    asked = pipeline.read(Request)
    assert len(asked) == len({request.request_id for request in asked}) == ROWS
    assert {request.lane for request in asked} == {Lane.BATCH}
    with tickets.open(newline="") as given, tickets.with_name("tickets.output.csv").open(newline="") as written:
        rows = list(csv.DictReader(given))
        assert list(csv.DictReader(written)) == [row | {"topic": row["text"]} for row in rows]
