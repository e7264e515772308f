"""What was worked out of a trace, kept beside it: the next simulation finds it again."""

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

Arrays = Mapping[str, Any]
_PIECE = 1 << 20


def digest_of(parts: Iterable[str | Path | ModuleType]) -> str:
    """A name for what follows from some texts, the contents of files and the code of modules."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as content:
                while piece := content.read(_PIECE):
                    digest.update(piece)
        else:
            digest.update((inspect.getsource(part) if isinstance(part, ModuleType) else part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


class Stash:
    """A folder beside a file.

    Raises:
        OSError: nothing can be written there.
    """

    def __init__(self, file: Path) -> None:
        self._folder = file.with_name(f"{file.name}.plan")
        self._folder.mkdir(exist_ok=True)

    def file(self, name: str, digest: str) -> Path:
        """Where something is kept that follows from what the digest is of."""
        return self._folder / f"{name}-{digest}"

    def load(self, name: str, digest: str) -> dict[str, Any] | None:
        """Arrays; None where they are not kept."""
        file = self.file(name, f"{digest}.npz")
        if not file.exists():
            return None
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)

    def save(self, name: str, digest: str, arrays: Arrays) -> None:
        """Keep arrays."""
        unfinished = self.file(name, f"{digest}.unfinished.npz")
        np.savez(unfinished, **arrays)
        unfinished.rename(self.file(name, f"{digest}.npz"))
