"""The long form: many inputs for each target, led by coverage, each target in a process of its own."""

import importlib.util
import mmap
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
from forebay_ops.cli.progress import ConsoleProgress
from forebay_ops.cli.tables import figures_table
from rich.console import Console

from .target import COUNTS
from .targets import TARGETS

LONGEST_S = 10
"""For one input; what takes longer is a hang."""
MOST_MB = 2_048
"""Of memory in one process, of which the libraries take a few hundred."""
LONGEST_BYTES = 4_096
"""Of an input. What is slow because it is long, the tests of the parts try with a megabyte."""

_PEAK_MB = re.compile(r"stat::peak_rss_mb:\s+(\d+)")
_BRANCHES = re.compile(r"cov: (\d+)")


@click.command()
@click.option("--inputs", type=click.IntRange(1), default=1_000_000, show_default=True, help="Of all targets together.")
@click.option("--target", "names", multiple=True, type=click.Choice(list(TARGETS)), help="Only this one; repeatable.")
@click.option("--corpus", type=click.Path(path_type=Path), help="Keep what reached new code there, and begin with it.")
def fuzz(inputs: int, names: Sequence[str], corpus: Path | None) -> None:
    """Feed hostile inputs to everything that reads what others write.

    An input is a defect that raises what is not declared, or takes more than ten seconds or two gigabytes: then it ends
    here, and says where the input lies. Which branches an input reached leads to the next one (atheris, libFuzzer).

    \b
      python -m tests.fuzz                                  # a million inputs, some minutes
      python -m tests.fuzz --target csv --inputs 50000
    """
    if importlib.util.find_spec("atheris") is None:
        raise click.ClickException("atheris is not installed; `make fuzz` installs it")
    chosen = {name: TARGETS[name] for name in names or TARGETS}
    shares = sum(target.share for target in chosen.values())
    table = figures_table("target", "inputs", "accepted", "branches", "slowest", "memory", "took")
    total = 0
    with tempfile.TemporaryDirectory() as folder, ConsoleProgress(Console(stderr=True)) as progress:
        for name, target in chosen.items():
            kept = (corpus or Path(folder)) / name
            kept.mkdir(parents=True, exist_ok=True)
            runs = -(-inputs * target.share // shares)
            fed, *row = _fed(name, runs, kept, Path(folder), progress)
            table.add_row(name, f"{fed:,}", *row)
            total += fed
    table.add_row("all", f"{total:,}")
    Console().print(table)


def _fed(name: str, runs: int, corpus: Path, folder: Path, progress: ConsoleProgress) -> tuple[int, *tuple[str, ...]]:
    """Feed one target in another process, which its fuzzer ends; how many inputs it had, and the cells of its row."""
    counted, said = folder / f"{name}.counts", folder / f"{name}.log"
    counted.write_bytes(bytes(COUNTS.size))
    limits = [
        f"-timeout={LONGEST_S}",
        f"-rss_limit_mb={MOST_MB}",
        f"-max_len={LONGEST_BYTES}",
        f"-runs={runs}",
        "-len_control=0",
    ]
    command = [sys.executable, "-m", "tests.fuzz.feeding", name, str(counted), *limits, "-print_final_stats=1"]
    began_s = time.monotonic()
    with said.open("wb") as log, counted.open("r+b") as file, mmap.mmap(file.fileno(), 0) as counts:
        process = subprocess.Popen([*command, str(corpus)], stdout=log, stderr=log)
        try:
            while process.poll() is None:
                progress.counting(f"{name}: {COUNTS.unpack(counts[:])[0]:,} of {runs:,} inputs")
                time.sleep(0.5)
        finally:
            process.kill()
            process.wait()
        fed, accepted, slowest_s = COUNTS.unpack(counts[:])
    text = said.read_text(errors="replace")
    if process.returncode or fed < runs:
        raise click.ClickException(f"{name} met a defect behind {fed:,} inputs:\n{text[-4_000:]}")
    took_s, peaks, branches = time.monotonic() - began_s, _PEAK_MB.findall(text), _BRANCHES.findall(text)
    progress.done(f"{name}: {fed:,} inputs")
    slowest = f"{slowest_s * 1000:,.0f} ms"
    return fed, f"{accepted / fed:.0%}", f"{branches[-1]}", slowest, f"{peaks[-1]} MB", f"{took_s:.0f} s"


if __name__ == "__main__":
    fuzz()
