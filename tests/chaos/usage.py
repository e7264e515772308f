"""What a process takes of memory, and how much of a JVM's is not merely waiting to be collected; and of processors."""

import re
import subprocess
from collections.abc import Sequence
from functools import cached_property

import psutil
from forebay_ops.local.servers import java_home

_GENERATION = re.compile(r"(?:garbage-first heap|generation)\s+total \d+K, used (\d+)K \[(0x\w+), .*?(0x\w+)\)")
"""Of what `jcmd GC.heap_info` tells, in G1's words and in those of the serial collector."""
_MAPPING = re.compile(r"([0-9a-f]+)-[0-9a-f]+ ")
_JCMD_S = 60

_Spaces = Sequence[tuple[int, int]]


class Usage:
    """Of a process and its children; memory in MB, without the pages of mapped files: the system takes them back."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    @property
    def memory(self) -> float:
        """All but the heaps of JVMs, which take as many pages as was allowed at their start, whatever lives in them."""
        heaps = sum(_anonymous_kb(pid, spaces) for pid, spaces in self._heaps.items())
        return _mb(sum(_anonymous_kb(one.pid) for one in self._family()) - heaps)

    @property
    def living(self) -> float | None:
        """What is in the heaps of JVMs once they have collected their garbage; None where there is no JVM."""
        for pid in self._heaps:
            _jcmd(pid, "GC.run")
        return _mb(sum(used for pid in self._heaps for used, _ in _generations(pid))) if self._heaps else None

    @property
    def descriptors(self) -> int:
        """Files and sockets that are open."""
        return sum(one.num_fds() for one in self._family())

    @property
    def processor_s(self) -> float:
        """What it has used of processors."""
        return sum(sum(one.cpu_times()[:2]) for one in self._family())

    @cached_property
    def _heaps(self) -> dict[int, _Spaces]:
        """Where the heap of each JVM lies, which does not change."""
        jvms = [one.pid for one in self._family() if one.name() == "java"]
        return {pid: [space for _, space in _generations(pid)] for pid in jvms}

    def _family(self) -> list[psutil.Process]:
        return [one for one in (self._process, *self._process.children(recursive=True)) if one.is_running()]


def _generations(pid: int) -> list[tuple[int, tuple[int, int]]]:
    """Kilobytes used of each part of a JVM's heap, and where it lies."""
    found = _GENERATION.findall(_jcmd(pid, "GC.heap_info"))
    assert found, f"the JVM {pid} tells of no heap"
    return [(int(used), (int(begin, 16), int(end, 16))) for used, begin, end in found]


def _jcmd(pid: int, command: str) -> str:
    jcmd = str(java_home() / "bin" / "jcmd")
    return subprocess.run([jcmd, str(pid), command], capture_output=True, text=True, timeout=_JCMD_S, check=True).stdout


def _anonymous_kb(pid: int, spaces: _Spaces | None = None) -> int:
    """Anonymous memory of a process, swapped or not; where spaces are named, of the mappings that begin in them."""
    total, counts = 0, spaces is None
    with open(f"/proc/{pid}/{'smaps_rollup' if spaces is None else 'smaps'}") as lines:
        for line in lines:
            if mapping := _MAPPING.match(line):
                begin = int(mapping[1], 16)
                counts = spaces is None or any(first <= begin < last for first, last in spaces)
            elif counts and line.startswith(("Anonymous:", "Swap:")):
                total += int(line.split()[1])
    return total


def _mb(kilobytes: int) -> float:
    return kilobytes * 1024 / 1e6
