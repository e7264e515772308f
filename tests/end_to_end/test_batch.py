"""The nightly job on the whole stack: killed twice, each row once; and a batch that is taken back in the middle."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from forebay_client import Batch
from forebay_client.batch import known_batches
from forebay_schemas.batches import row_of

from ..waiting import eventually
from .conftest import RunningStack

ROWS = 2_000
DIFFERENT = 1_500
"""The others repeat one of them, and share its answer."""
TEMPLATE = "Is this review good or bad? {text}"
FIELDS = {"category": "staged", "max_tokens": 4, "max_tier": "small"}


def reviews(folder: Path, rows: int, different: int) -> Path:
    """A table of reviews, some of which say the same."""
    file = folder / "reviews.csv"
    with file.open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["sku", "text"])
        writer.writerows([f"sku-{number}", f"Lamp {number % different} is fine"] for number in range(rows))
    return file


def test_a_nightly_job_that_is_killed_twice_gets_each_row_once(running: RunningStack, tmp_path: Path) -> None:
    file = reviews(tmp_path, ROWS, DIFFERENT)
    options = ["--id", "sku", "--category", "staged", "--max-tokens", "4", "--max-tier", "small"]
    command = ["submit", str(file), "--tenant", "nightly", "--template", TEMPLATE, *options, "--wait"]
    command += ["--out-column", "mood", "--journal", str(tmp_path)]

    def start() -> "subprocess.Popen[str]":
        environment = os.environ | {"FOREBAY_CONFIG": str(running.stack.home.config)}
        whole = [sys.executable, "-m", "forebay_ops.cli", "batch", *command]
        return subprocess.Popen(whole, stdout=subprocess.PIPE, text=True, env=environment)

    first = start()
    assert first.stdout is not None
    batch = Batch(first.stdout.readline().strip(), config=running.config, journals=tmp_path / "beside")
    first.kill()  # before anything is sent, or a moment later
    first.wait()
    second = start()
    eventually(lambda: batch.batch_id in {one.batch_id for one in known_batches(running.config)}, "it is begun")
    eventually(lambda: batch.status().answered > 100, "some rows are answered")
    second.send_signal(signal.SIGKILL)
    second.wait()
    assert start().wait(600) == 0

    with (tmp_path / "reviews.output.csv").open(newline="") as text:
        found = list(csv.DictReader(text))
    assert [row["sku"] for row in found] == [f"sku-{number}" for number in range(ROWS)]
    status = batch.status()
    assert (status.phase, status.answered, status.failed) == ("completed", ROWS, 0)
    assert 0 < status.hits <= ROWS - DIFFERENT  # a model of random weights finds no end to most: those are not kept
    rows = Counter(reply.request_id for reply in running.replies() if reply.tenant == "nightly")
    assert (len(rows), set(rows.values())) == (ROWS, {1})


def test_a_batch_that_is_taken_back_ends_and_each_row_has_one_reply(running: RunningStack, tmp_path: Path) -> None:
    sent = 2_000  # more than are answered before the command comes
    file = reviews(tmp_path, sent, sent)
    fields = {**FIELDS, "max_tokens": 64}
    batch = Batch.submit(file, "taken", template=TEMPLATE, config=running.config, journals=tmp_path, **fields)
    batch.cancel()
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
