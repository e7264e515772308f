"""Clocks that can be set, each for one part: by a small library in front of libc's.

Debian's libfaketime (0.9.10) is of no use for this: where it leaves monotonic clocks alone, as setting a clock does,
``time.sleep`` of Python fails, and where it does not, they jump too.
"""

import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")


@cache
def no_clocks() -> str | None:
    """Why none can be set here, or None."""
    return None if shutil.which("cc") else "a library in front of libc's clock is compiled by cc, which is not here"


class Clock:
    """What processes with ``environment`` take for the time of day. Its files lie in a folder, which it makes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._library, self._file = folder / "clock.so", folder / "set-by"
        self.set_by(0)
        self.environment = {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file)}
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", self._library, _SOURCE, "-ldl"], check=True)

    def set_by(self, seconds: int) -> None:
        """Be so far ahead of the true time from now on; below zero: behind."""
        held = struct.pack("q", seconds)
        if self._file.exists():
            with self._file.open("r+b") as file:  # the same file, which is mapped
                file.write(held)
        else:
            self._file.write_bytes(held)

    def is_before_libc_in(self, pid: int) -> bool:
        """Whether a process has it in front of libc's."""
        return str(self._library) in Path(f"/proc/{pid}/maps").read_text()
