"""Where processor time goes while a side is measured: by thread, and by function of the processes that run Python.

Threads are read from the kernel's own accounts, so that those of a JVM are among them. Functions are sampled by py-spy,
100 times a second, on threads that compute; a JVM that runs Python has Python's own frames alone.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from forebay_schemas.errors import ForebayError

from .harness import Bench, Measure, Say
from .process import Process

_PER_S = 100
_OURS = re.compile(r"([\w<>]+) \((?:.*/)?((forebay_\w+)/[\w/]+\.py)")
_PACKAGE = re.compile(r"\((?:.*/)?site-packages/(\w+)[/.]")
_LIBRARY = re.compile(r"\((?:.*/)?lib/python3\.\d+/(\w+)")
_GRACE_S = 20.0


@dataclass(frozen=True, slots=True)
class Thread:
    """Threads of one process whose names differ in their numbers alone, and the cores that they took together."""

    process: str
    name: str
    cores: float


@dataclass(frozen=True, slots=True)
class Functions:
    """What one process that runs Python computed, by samples.

    Attributes:
        samples: of all its threads.
        ours: of each function of this project, the share of the samples in which it, or what it called, computed.
        packages: of each package, the share in which its own code did.
    """

    process: str
    samples: int
    ours: list[tuple[str, float]]
    packages: list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Profile:
    """What was found while one side was measured."""

    side: str
    took_s: float
    threads: list[Thread]
    functions: list[Functions]


def check_profiling(bench: Bench) -> None:
    """See before anything is measured that there is something to look into, and what looks.

    Raises:
        ForebayError: one of them is missing.
    """
    if not bench.processes:
        raise ForebayError("--profile: this benchmark has no processes that are looked into; leave it out")
    _sampler()


def profile_sides(bench: Bench, folder: Path, say: Say) -> Iterator[Profile]:
    """Measure each side twice more: its threads undisturbed, then its functions. No figure is of either.

    Args:
        folder: gets a folder for each side, with the samples of each process as folded stacks, for flame graphs.

    Raises:
        ForebayError: there is no py-spy, or it may not look.
    """
    for side, measure in bench.sides.items():
        say(f"looking at the threads of {side}")
        seconds, threads = _threads_during(measure, bench.processes)
        say(f"looking at the functions of {side}")
        files = _sampled_during(measure, bench.processes, folder / re.sub(r"\W+", "-", side))
        found = [functions(name, file.read_text().splitlines()) for name, file in files]
        yield Profile(side, seconds, threads, found)


def _threads_during(measure: Measure, processes: Sequence[Process]) -> tuple[float, list[Thread]]:
    """How many seconds a measurement takes, and the threads by the cores that they take meanwhile."""
    family = _family(processes)
    used_s, began_s = _threads_s(family), time.monotonic()
    measure()
    took_s = time.monotonic() - began_s
    by_name: dict[tuple[str, str], float] = defaultdict(float)
    for key, (name, seconds) in _threads_s(family).items():
        by_name[family[key[0]], name] += seconds - used_s.get(key, ("", 0.0))[1]
    ranked = sorted(by_name.items(), key=lambda one: one[1], reverse=True)
    return took_s, [Thread(*names, seconds / took_s) for names, seconds in ranked]


def functions(process: str, stacks: Iterable[str]) -> Functions:
    """What folded stacks come to: ``outermost;...;innermost count``, each frame ``function (file:line)``."""
    ours: Counter[str] = Counter()
    packages: Counter[str] = Counter()
    samples = 0
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        if not count.isdigit():
            continue
        samples += int(count)
        names = {f"{found[2]}: {found[1]}" for frame in frames.split(";") if (found := _OURS.search(frame))}
        ours.update(dict.fromkeys(names, int(count)))
        packages[_package(frames.rpartition(";")[2])] += int(count)
    return Functions(process, samples, _shares(ours, samples), _shares(packages, samples))


def _package(frame: str) -> str:
    if ours := _OURS.search(frame):
        return ours[3]
    other = _PACKAGE.search(frame) or _LIBRARY.search(frame)
    return other[1] if other else "all else"


def _shares(counts: "Counter[str]", samples: int) -> list[tuple[str, float]]:
    return [(name, count / samples) for name, count in counts.most_common()]


def _family(processes: Sequence[Process]) -> dict[int, str]:
    """The processes that run now, and what they have started, by their ids."""
    found: dict[int, str] = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(process.popen.pid)
            found |= {one.pid: process.name for one in (root, *root.children(recursive=True))}
    return found


def _threads_s(pids: Iterable[int]) -> dict[tuple[int, int], tuple[str, float]]:
    """Of each thread, by process and its own id, the name without its numbers, and the seconds that it computed."""
    found: dict[tuple[int, int], tuple[str, float]] = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            for thread in psutil.Process(pid).threads():
                with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
                    name = Path(f"/proc/{pid}/task/{thread.id}/comm").read_text().strip()
                    found[pid, thread.id] = re.sub(r"\d+", "n", name), thread.user_time + thread.system_time
    return found


def _sampled_during(measure: Measure, processes: Sequence[Process], folder: Path) -> list[tuple[str, Path]]:
    """Names and samples of the processes that run Python; the sampler of any other ends at once."""
    program = _sampler()
    folder.mkdir(parents=True, exist_ok=True)
    files: list[tuple[str, Path]] = []
    samplers: list[subprocess.Popen[str]] = []
    for pid, name in _family(processes).items():
        files.append((name, folder / f"{name}-{pid}.folded"))
        # Nobody is stopped for it: a JVM has a hundred threads to be stopped and sent on.
        shape = ["--nonblocking", "--format", "raw", "--threads", "--full-filenames", "--output", str(files[-1][1])]
        command = [program, "record", "--pid", str(pid), "--rate", str(_PER_S), *shape]
        samplers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    try:
        measure()
    finally:
        said = [_ended(sampler) for sampler in samplers]
    found = [(name, file) for name, file in files if file.exists()]
    if not found:
        raise ForebayError(f"py-spy saw no Python; it said: {said[0].strip() or 'nothing'}")
    return found


def _sampler() -> str:
    places = [str(Path(sys.executable).parent), *os.get_exec_path()]
    program = shutil.which("py-spy", path=os.pathsep.join(places))
    if program is None:
        raise ForebayError("--profile needs py-spy; install it beside this (`pip install py-spy`)")
    return program


def _ended(sampler: "subprocess.Popen[str]") -> str:
    sampler.send_signal(signal.SIGINT)
    try:
        return sampler.communicate(timeout=_GRACE_S)[1]
    except subprocess.TimeoutExpired:
        sampler.kill()
        return sampler.communicate()[1]
