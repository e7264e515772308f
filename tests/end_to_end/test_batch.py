"""The nightly example on the whole stack: killed twice, each row once; and a batch that is taken back in the middle."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forebay_client import Batch
from forebay_client.batch import known_batches
from forebay_schemas.batches import row_of

from ..waiting import eventually
from .conftest import RunningStack

EXAMPLE = Path(__file__).parents[2] / "examples" / "nightly_enrichment"
ROWS = 2_000


def write_tickets(folder: Path) -> Path:
    """A file of so many tickets."""
    tickets = folder / "tickets.csv"
    with tickets.open("w") as file:
        subprocess.run([sys.executable, str(EXAMPLE / "make_tickets.py"), str(ROWS)], stdout=file, check=True)
    return tickets


@contextmanager
def night(tickets: Path, settings: Path) -> Iterator["subprocess.Popen[str]"]:
    """The command as it runs; killed where it still does at the end."""
    environment = os.environ | {
        "FOREBAY_CONFIG": str(settings),
        "XDG_CACHE_HOME": str(tickets.parent / "cache"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # where `forebay` is
    }
    command = [str(EXAMPLE / "enrich.sh"), str(tickets)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_nightly_example_that_is_killed_twice_gets_each_row_once(running: RunningStack, tmp_path: Path) -> None:
    tickets, settings = write_tickets(tmp_path), running.stack.home.config
    with night(tickets, settings) as first:  # killed before anything is sent, or a moment later
        assert first.stdout is not None
        batch = Batch(first.stdout.readline().strip(), config=running.config, journals=tmp_path / "beside")
    with night(tickets, settings):
        eventually(lambda: batch.batch_id in {one.batch_id for one in known_batches(running.config)}, "it is begun")
        eventually(lambda: batch.status().answered > 100, "some rows are answered")
    with night(tickets, settings) as third:
        assert third.wait(600) == 0

    with tickets.open(newline="") as given, (tmp_path / "tickets.output.csv").open(newline="") as written:
        found = list(csv.DictReader(written))
        assert [row | {"topic": found[at]["topic"]} for at, row in enumerate(csv.DictReader(given))] == found
    assert len(found) == ROWS
    status = batch.status()
    assert (status.phase, status.answered, status.failed) == ("completed", ROWS, 0)
    assert status.hits > 0  # some tickets say the same
    rows = Counter(reply.request_id for reply in running.replies() if reply.request_id.startswith(batch.batch_id))
    assert (len(rows), set(rows.values())) == (ROWS, {1})


def reviews(folder: Path, rows: int) -> Path:
    """A table of reviews."""
    file = folder / "reviews.csv"
    with file.open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["sku", "text"])
        writer.writerows([f"sku-{number}", f"Lamp {number} is fine"] for number in range(rows))
    return file


def test_a_batch_that_is_taken_back_ends_and_each_row_has_one_reply(running: RunningStack, tmp_path: Path) -> None:
    sent = 2_000
    file = reviews(tmp_path, sent)
    fields = {"template": "Good or bad? {text}", "category": "staged", "max_tokens": 64, "max_tier": "small"}
    worker = running.stack.pid("worker")
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)  # it answers none before the command comes
    try:
        batch = Batch.submit(file, "taken", config=running.config, journals=tmp_path, **fields)
        batch.cancel()
    finally:
        os.kill(worker, signal.SIGCONT)
    status = batch.wait(120)
    assert status.phase == "cancelled"
    assert status.answered + status.replies["cancelled"].rows == sent
    assert status.replies["cancelled"].rows > 100
    written = batch.results()
    codes = {json.loads(line)["error"]["code"] for line in written.errors.read_text().splitlines()}
    assert codes == {"batch_cancelled"}
    rows = Counter(row_of(reply.request_id) for reply in running.replies() if reply.tenant == "taken")
    assert (len(rows), set(rows.values())) == (sent, {1})
    with running.client(tenant="taken") as client:  # nothing hangs behind it
        assert client.ask("Is a lamp fine?", timeout_s=60).error is None
