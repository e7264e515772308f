"""One target in a process of its own, fed by libFuzzer: ``python -m tests.fuzz.feeding TARGET COUNTS [OPTIONS]``."""

import logging
import mmap
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from .target import COUNTS
from .targets import TARGETS

OURS = ["forebay_schemas", "forebay_client", "forebay_gateway", "forebay_jobs", "forebay_workers"]
"""Packages whose branches lead the fuzzer."""


def feed(name: str, counts_file: Path, options: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    atheris: Any = import_module("atheris")  # of a group of its own, and of compiled code that has no types
    logging.disable()  # the parts say of each input what was wrong with it
    target = TARGETS[name]
    with counts_file.open("r+b") as file:
        counts = mmap.mmap(file.fileno(), 0)
    with ExitStack() as stack:
        with atheris.instrument_imports(include=OURS):
            take = target.build(stack)
        seeds = tempfile.mkdtemp(dir=counts_file.parent)
        for number, seed in enumerate(target.seeds()):
            (Path(seeds) / str(number)).write_bytes(seed)
        fed, accepted, slowest_s = 0, 0, 0.0

        def one(data: bytes) -> None:
            nonlocal fed, accepted, slowest_s
            began_s = time.perf_counter()
            accepted += take(data)
            fed, slowest_s = fed + 1, max(slowest_s, time.perf_counter() - began_s)
            counts[:] = COUNTS.pack(fed, accepted, slowest_s)

        # The first folder is where inputs that reached something new are left.
        atheris.Setup([sys.argv[0], *options, seeds], one)
        atheris.Fuzz()


if __name__ == "__main__":
    feed(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
