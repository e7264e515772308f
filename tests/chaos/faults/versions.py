"""A worker of an older version beside the newest ones, as in the middle of a rolling upgrade.

The older version is real: what the repository held before the newest schema of replies. It reads the tasks that today's
job writes, and writes the replies and results of then. A tree without that history has no such fault.
"""

import re
import subprocess
import tarfile
from io import BytesIO
from os import pathsep
from pathlib import Path

from ..fault import Fault
from ..scene import Scene

_ROOT = Path(__file__).parents[3]
_PACKAGES = ("schemas", "workers")


def _git(*words: str) -> bytes | None:
    try:
        return subprocess.run(["git", "-C", str(_ROOT), *words], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def _version_before() -> str | None:
    """The commit before the one that added the newest schema of replies, where it is there."""
    found = sorted((_ROOT / "schemas" / "avro").glob("reply.*.avsc"), key=_number)
    added = _git("log", "-1", "--format=%H", "--diff-filter=A", "--", str(found[-1]))
    before = f"{(added or b'').decode().strip()}^"
    return before if added and _git("cat-file", "-e", before) is not None else None


def _number(schema: Path) -> int:
    (number,) = re.findall(r"\d+", schema.name)
    return int(number)


def _older(scene: Scene) -> str:
    """Where the older version's packages are unpacked, as Python takes it."""
    folder = scene.running.stack.home.root / "older"
    if not folder.exists():
        packed = _git("archive", _BEFORE or "", *_PACKAGES)
        assert packed is not None
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
    return pathsep.join(str(folder / name) for name in _PACKAGES)


_BEFORE = _version_before()

FAULTS = (
    (
        Fault(
            "an older worker joins",
            when=Scene.generating,
            inject=lambda scene: scene.second.join(_older(scene)),
            until=lambda scene: scene.second.joined(_older(scene)),
        ),
        Fault(
            "an older worker leaves",
            when=lambda scene: scene.second.joined(_older(scene)) and scene.generating(),
            inject=lambda scene: scene.second.leave(),
        ),
    )
    if _BEFORE
    else ()
)
