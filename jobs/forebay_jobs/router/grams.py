"""Which runs of one to three bytes a text has, hashed: how something is put, beside what it means."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forebay_jobs.ends import ends

LONGEST = 3
"""Runs of up to four were no better on the development half, and tables of twice the size neither."""
BITS = 13
PLACES = 2**BITS

Floats = npt.NDArray[np.float32]

_SPREAD = np.uint32(0x9E3779B1)  # Knuth's multiplicative hashing: the golden ratio of 2**32
_BASE = np.uint32(257)


def counts(text: str) -> Floats:
    """Of each place of the table how many runs of the text fall into it; case and spacing do not count."""
    plain = f" {' '.join(ends(text).lower().split())} ".encode()
    codes = run = np.frombuffer(plain, np.uint8).astype(np.uint32)
    found = [codes]
    for length in range(2, LONGEST + 1):
        run = run[: len(run) - 1] * _BASE + codes[length - 1 :]
        found.append(run)
    places = (np.concatenate(found) * _SPREAD) >> np.uint32(32 - BITS)
    return np.bincount(places, minlength=PLACES).astype(np.float32)


def weighted(texts: Sequence[str], rarity: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """Which places texts have, as the row, the place and the weight of each: sublinear in the count, times the rarity
    of the place, of length one for each text."""
    rows, places, weights = [], [], []
    for row, text in enumerate(texts):
        found = counts(text)
        here = np.flatnonzero(found)
        weight = (1 + np.log(found[here])) * rarity[here]
        rows.append(np.full(len(here), row))
        places.append(here)
        weights.append(weight / np.sqrt(weight @ weight))
    return np.concatenate(rows), np.concatenate(places), np.concatenate(weights)
