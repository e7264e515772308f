"""Qdrant Edge in a folder: opened, put aside where it is damaged, and optimised in a process of its own.

The engine optimises (builds graphs, quantises, clears out what was removed) only when it is told to, and its
``optimize`` holds Python's interpreter lock until it is done: 3.6 s for 8,000 vectors on two cores, minutes for
100,000. In a thread of the job that would stop every request. So a child process optimises a copy of the files while
the shard goes on serving; then the copy takes its place, after what was written meanwhile was written to it too.
What is left in the way of requests is that change: loading one shard and closing the other, some 0.2 s at 20,000
points.
"""

import contextlib
import errno
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .guard import is_failure

logger = logging.getLogger(__name__)

LEAST_CHANGES = 10_000
"""Writes after which optimising is worth a copy; so many plain vectors are searched in some 0.5 ms."""
_CHANGED_SHARE = 0.2
"""Of the points of a large index: so each is copied five times in all while the index grows."""
_BUILT_COPIES = 2
"""Of a shard's files lie beside it while it is optimised: what is read, and what is made of it."""
_LAST_UNDER_LOCK = 256
"""Writes that others wait for while the built shard takes over; some 20 ms."""
LEAST_FREE_BYTES = 64 * 1024**2
"""Room on the disk below which nothing is written; time enough to notice, however fast others fill it."""
_LOOK_S = 0.2
_NICE = 10
"""A tenth of the share that requests have of a busy core; with the most, 19, it would hardly ever be done there."""


class EdgeShard:
    """The newest shard of a folder. Safe to share between threads; failures raise.

    A process that is killed between building and taking over loses what was written to the index meanwhile: those
    questions are misses later, which a cache may have.
    """

    def __init__(self, folder: Path, config: Any, indexed_fields: dict[str, Any]) -> None:
        """
        Args:
            config: an ``EdgeConfig``; what differs in an older shard is brought about by the next optimising.
            indexed_fields: schemas of a new shard's payload indexes, by field.
        """
        self._folder = folder
        self._lock = threading.Lock()
        for left in folder.glob("building-*"):
            shutil.rmtree(left, ignore_errors=True)
        self._number, self._shard = _open_newest(folder, config, indexed_fields)
        info = self._shard.info()
        self._changes = max(0, info.points_count - info.indexed_vectors_count)
        self._since_copy: list[Any] | None = None
        """Operations since the copy that is being optimised was begun; None where none is."""
        self._copying = False

    def query_batch(self, requests: Any) -> list[list[Any]]:
        with self._lock:
            return self._shard.query_batch(requests)

    def scroll(self, request: Any) -> tuple[list[Any], Any]:
        with self._lock:
            return self._shard.scroll(request)

    def count(self, chosen: Any = None) -> int:
        """All points, or those that a ``Filter`` chooses."""
        import qdrant_edge as edge

        with self._lock:
            if chosen is None:
                return self._shard.info().points_count
            return self._shard.count(edge.CountRequest(exact=True, filter=chosen))

    def update(self, operation: Any, points: int = 1) -> None:
        """Write; what is written while the files are copied (0.9 s for 100,000 points) can be found after that.

        Raises:
            OSError: the disk is full, or read-only.
        """
        with self._lock:
            _check_disk(self._folder)
            self._changes += points
            if self._since_copy is not None:
                self._since_copy.append(operation)
            if not self._copying:
                self._shard.update(operation)

    def optimise(self, stop: threading.Event) -> bool:
        """Have the shard optimised where enough was written since the last time; whether it was.

        Takes minutes for a large shard, during which it serves as before.

        Args:
            stop: when set, the attempt is given up.
        """
        if self._changes < max(LEAST_CHANGES, _CHANGED_SHARE * self.count()):
            return False
        building = Path(tempfile.mkdtemp(prefix="building-", dir=self._folder))
        try:
            self._copy(building)
            if not _optimised(building, stop):
                return False
            self._take(building)
            return True
        finally:
            with self._lock:
                self._since_copy = None
            shutil.rmtree(building, ignore_errors=True)

    def close(self) -> None:
        with self._lock:
            self._shard.close()

    def _copy(self, building: Path) -> None:
        files = _path(self._folder, self._number).rglob("*")
        _check_disk(self._folder, _BUILT_COPIES * sum(file.stat().st_size for file in files))
        with self._lock:
            self._since_copy, self._copying = [], True
        try:
            shutil.copytree(_path(self._folder, self._number), building, dirs_exist_ok=True)
        finally:
            with self._lock:
                self._copying = False
                for operation in self._since_copy:
                    self._shard.update(operation)

    def _take(self, building: Path) -> None:
        import qdrant_edge as edge

        _check_disk(self._folder)
        written = self._since_copy or []
        path = _path(self._folder, self._number + 1)
        building.rename(path)
        try:
            built = edge.EdgeShard.load(str(path))
            caught_up = 0
            while caught_up + _LAST_UNDER_LOCK < len(written):  # without the lock: others write on
                built.update(written[caught_up])
                caught_up += 1
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        with self._lock:
            for operation in written[caught_up:]:
                built.update(operation)
            before, self._shard = self._shard, built
            self._since_copy, self._changes = None, len(written)
            self._number += 1
        before.close()
        shutil.rmtree(_path(self._folder, self._number - 1), ignore_errors=True)


def _open_newest(folder: Path, config: Any, indexed_fields: dict[str, Any]) -> tuple[int, Any]:
    """The number of the newest shard and the shard; an empty one where there is none that can be opened."""
    import qdrant_edge as edge

    _check_disk(folder)
    numbers = sorted(int(path.name.removeprefix("shard-")) for path in folder.glob("shard-*"))
    number = numbers[-1] if numbers else 1
    for older in numbers[:-1]:
        shutil.rmtree(_path(folder, older), ignore_errors=True)
    path = _path(folder, number)
    if numbers:
        try:
            return number, edge.EdgeShard.load(str(path), config)
        except BaseException as error:
            if not is_failure(error):
                raise
            # A cache may be lost, but the job must start: keep the remains for whoever wants to look.
            broken = folder / "broken"
            logger.warning("the index in %s cannot be opened, starting an empty one (%s)", path, error)
            shutil.rmtree(broken, ignore_errors=True)
            path.rename(broken)
    shard = edge.EdgeShard.create(str(path), config)
    for field, schema in indexed_fields.items():
        shard.update(edge.UpdateOperation.create_field_index(field, schema))
    return number, shard


def _check_disk(folder: Path, needed_bytes: int = 0) -> None:
    """The engine writes through memory maps, where a disk that takes nothing is no error but the end of the process.

    Raises:
        OSError: it is read-only, or has not so much room, and some more.
    """
    disk = os.statvfs(folder)
    if disk.f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))
    if disk.f_bavail * disk.f_frsize < needed_bytes + LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number}"


def _optimised(folder: Path, stop: threading.Event) -> bool:
    """Whether a child process has optimised the shard in a folder."""
    # The interpreter inside a TaskManager finds its packages by a path that the child does not know by itself.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", __name__, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment) as child:
        while child.poll() is None:
            if stop.wait(_LOOK_S):
                child.kill()
                return False
    if child.returncode:
        logger.warning("optimising the index failed, it goes on as it is (exit status %d)", child.returncode)
    return child.returncode == 0


def _main(arguments: Sequence[str]) -> None:
    import qdrant_edge as edge

    with contextlib.suppress(OSError):  # refused in some sandboxes, and only a courtesy
        os.nice(_NICE)
    (folder,) = arguments
    shard = edge.EdgeShard.load(folder)
    shard.optimize()
    shard.close()


if __name__ == "__main__":
    _main(sys.argv[1:])
