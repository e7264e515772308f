"""An older version, from the repository's own history: what it held before the newest schema of replies."""

import re
import subprocess
import tarfile
from io import BytesIO
from os import pathsep
from pathlib import Path

OLDER_JOB = "older-job"
"""The folder of its packages, in a stack's home."""

_ROOT = Path(__file__).parents[2]


def no_older_version() -> str | None:
    """Why there is none here; None where there is one."""
    return None if _BEFORE else "the history of the repository is not here"


def older_packages(folder: Path, *names: str) -> str:
    """Where these packages of the older version are, as Python takes it.

    Args:
        folder: where they are unpacked, unless they are there.
        names: of the top level.
    """
    if not folder.exists():
        packed = _git("archive", _BEFORE or "", *names)
        assert packed is not None
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
    return pathsep.join(str(folder / name) for name in names)


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


_BEFORE = _version_before()
