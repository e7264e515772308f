"""A file system of its own for one folder: in memory, full when it is told to be, and read-only."""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from .waiting import eventually


@cache
def no_small_disks() -> str | None:
    """Why none can be mounted here, or None."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            SmallDisk(Path(folder), 2**20).unmount()
        except (OSError, subprocess.CalledProcessError):
            return "a file system can be mounted by root alone, where the sandbox lets it"
    return None


class SmallDisk:
    """Lies in a folder, which it makes, until ``unmount``."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self._folder, self._size_bytes = folder, size_bytes
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "forebay", folder], check=True, capture_output=True
        )

    def fill(self) -> None:
        """Leave room for what is there already, and for no more."""
        eventually(self._shrink, f"{self._folder} is full")

    def make_room(self) -> None:
        self._remount(f"size={self._size_bytes}").check_returncode()

    def take_nothing(self) -> None:
        """Be read-only, as soon as no process has a file open for writing."""
        eventually(lambda: not self._remount("ro").returncode, f"{self._folder} is read-only")

    def take_again(self) -> None:
        self._remount("rw").check_returncode()

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self._folder], check=True, capture_output=True)

    def _shrink(self) -> bool:
        """Whether it holds as much as it may; refused where more was written meanwhile."""
        disk = os.statvfs(self._folder)
        return not self._remount(f"size={(disk.f_blocks - disk.f_bfree) * disk.f_frsize}").returncode

    def _remount(self, options: str) -> "subprocess.CompletedProcess[bytes]":
        command = ["mount", "-o", f"remount,{options}", self._folder]
        return subprocess.run(command, check=False, capture_output=True)
