"""How long a large batch takes from its file to its results, and how much memory: each step is the command itself."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import psutil
from forebay_schemas.batches import is_batch

from .harness import Say
from .process import BenchFailed
from .rig import rig, synthetic_settings

_SAMPLED_S = 0.02
_SYSTEM = "You read reviews of a furniture shop. Answer with one word: good, bad or mixed."
_REVIEW = "Review {number}: the parcel came two days late, but the lamp is solid, bright, and I would buy it again."


@dataclass(frozen=True, slots=True)
class Step:
    """What one command took.

    Attributes:
        peak_mb: the most memory that its process held, in MiB.
    """

    name: str
    took_s: float
    peak_mb: float


def run(rows: int, say: Say) -> list[Step]:
    """Submit, wait for and write so many rows, on a broker of its own, with a stand-in that answers at once."""
    with rig(say) as it:
        config = it.installation(**synthetic_settings())
        file = it.write(config)
        it.process("answering", [sys.executable, "-m", "forebay_ops.bench.answering", str(file)])
        say(f"writing {rows:,} rows")
        requests = file.with_name("requests.jsonl")
        _write(requests, rows)
        environment = os.environ | {"FOREBAY_CONFIG": str(file)}
        journal = ["--journal", str(file.with_name("journals"))]
        submitted = ["submit", str(requests), "--tenant", "acme", *journal]
        steps: list[Step] = []

        def step(name: str, *arguments: str) -> str:
            say(name)
            taken, told = _timed(name, arguments, environment)
            steps.append(taken)
            return told

        batch_id = _id_in(step("submit", *submitted))
        step("submit again, sends nothing", *submitted)
        step("watch until the last reply", "watch", batch_id, *journal)
        step("results", "results", batch_id, *journal)
        _check(requests.with_name("requests.output.jsonl"), rows)
    return steps


def _timed(name: str, arguments: tuple[str, ...], environment: dict[str, str]) -> tuple[Step, str]:
    """Run a command; what it took, and what it printed."""
    began, peak_bytes = time.monotonic(), 0
    command = [sys.executable, "-m", "forebay_ops.cli", "batch", *arguments]
    with TemporaryFile() as out:
        process = psutil.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
        while process.poll() is None:  # the system's own peak of a child holds what this process had when it forked
            with suppress(psutil.Error):
                peak_bytes = max(peak_bytes, process.memory_info().rss)
            time.sleep(_SAMPLED_S)
        took_s = time.monotonic() - began
        out.seek(0)
        told = out.read().decode(errors="replace")
    if process.returncode:
        raise BenchFailed(f"{name} ended with code {process.returncode}: {told.strip()[-1000:]}")
    return Step(name, took_s, peak_bytes / 2**20), told


def _write(file: Path, rows: int) -> None:
    with file.open("w") as lines:
        for number in range(1, rows + 1):
            turns = [
                {"role": "system", "content": _SYSTEM},
                {"role": "user", "content": _REVIEW.format(number=number)},
            ]
            body = {"model": "auto", "messages": turns, "max_tokens": 8}
            line = {"custom_id": f"review-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            lines.write(json.dumps(line) + "\n")


def _id_in(told: str) -> str:
    return next(line for line in told.splitlines() if is_batch(line))


def _check(file: Path, rows: int) -> None:
    with file.open("rb") as lines:
        found = sum(1 for _ in lines)
    if found != rows:
        raise BenchFailed(f"{file.name} has {found:,} lines where there were {rows:,} rows")
