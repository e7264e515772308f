"""The vectors of labelled prompts, kept in a folder: a minute the first time, none afterwards."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from forebay_jobs.embedding import Embedder

_AT_ONCE = 256


def vectors_of(
    prompts: Sequence[str], by: str, load: Callable[[], Embedder], cache: Path, said: Callable[[str], None]
) -> npt.NDArray[np.float32]:
    """Unit vectors, one a row; of a long prompt as much as the model reads.

    Args:
        by: names what makes them; they are found again by it.
        load: loads it; called where they are not there.
    """
    digest = hashlib.sha256("\0".join([by, *prompts]).encode()).hexdigest()[:24]
    file = cache / f"vectors-{digest}.npy"
    if not file.exists():
        found = _embedded(prompts, load, said)
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".unfinished.npy")
        np.save(unfinished, found)
        unfinished.rename(file)
    return np.load(file)


def _embedded(
    prompts: Sequence[str], load: Callable[[], Embedder], said: Callable[[str], None]
) -> npt.NDArray[np.float32]:
    embedder = load()
    found: list[npt.NDArray[np.float32]] = []
    for begin in range(0, len(prompts), _AT_ONCE):
        said(f"embedding, {begin:,} of {len(prompts):,} prompts")
        found.append(embedder.embed(prompts[begin : begin + _AT_ONCE]))
    return np.concatenate(found)
