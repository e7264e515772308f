"""Whether somebody who was just given another question's answer asks the same again in other words."""

import numpy as np
import numpy.typing as npt

REWORDED_FROM = 0.8
"""Cosine. `forebay eval rewording` has what other ones would find."""


def is_rewording(
    before: str, now: str, vector_before: npt.NDArray[np.float32], vector: npt.NDArray[np.float32]
) -> bool:
    """Whether a question rewords the one before it; the same words are no rewording but a repeat."""
    if before.casefold() == now.casefold() or vector_before.shape != vector.shape:
        return False
    return float(vector_before @ vector) >= REWORDED_FROM
