"""The nightly example as a newcomer runs it: killed twice, and each row is asked and answered once."""

import csv
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from forebay_schemas.records import Chunk, Lane, Reply, Request

from tests.waiting import eventually

from .stand_in import StandIn, echo

pytestmark = pytest.mark.stack

FOLDER = Path(__file__).parents[2] / "examples" / "nightly_enrichment"
ROWS = 2_000


@contextmanager
def night(tickets: Path, settings: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command as it runs; killed where it still does at the end."""
    environment = os.environ | {
        "FOREBAY_CONFIG": str(settings),
        "XDG_CACHE_HOME": str(tickets.parent / "cache"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # where `forebay` is
    }
    process = subprocess.Popen([str(FOLDER / "enrich.sh"), str(tickets)], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


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
    for rows in (1, ROWS // 2):  # killed as soon as anything is sent, and with one half answered
        with night(tickets, settings):
            eventually(lambda rows=rows: len(pipeline.read(Request)) >= rows, f"{rows} rows are sent")
    killed_twice.set()
    with night(tickets, settings) as process:
        assert process.wait(180) == 0

    asked = pipeline.read(Request)
    assert len(asked) == len({request.request_id for request in asked}) == ROWS
    assert {request.lane for request in asked} == {Lane.BATCH}
    with tickets.open(newline="") as given, tickets.with_name("tickets.output.csv").open(newline="") as written:
        rows = list(csv.DictReader(given))
        assert list(csv.DictReader(written)) == [row | {"topic": row["text"]} for row in rows]
