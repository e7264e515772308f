"""How right answers are, where traffic is labelled: with what questions mean, or which tiers answer them right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .traffic import UNKNOWN, Floats, Ints, Traffic

Rows = slice | Ints


@dataclass(frozen=True, slots=True)
class Quality:
    """Of each row.

    Attributes:
        labelled: whether somebody said what it means, or which tiers answer it right.
        right: by tier the chance that its answer is right if it is generated there; shape (tiers, rows).
    """

    labelled: npt.NDArray[np.bool_]
    right: Floats

    def judged(self, traffic: Traffic, source: Ints, rows: Rows) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Of some rows, whether their answers can be judged, and whether they are those to another meaning.

        Args:
            source: of each of these rows, the row for which its answer was generated.
        """
        known = self.labelled[rows] & self.labelled[source]
        own, given = traffic.label[rows], traffic.label[source]
        return known, known & (own != given) & (own != UNKNOWN) & (given != UNKNOWN)


def quality_of(traffic: Traffic, tiers: Sequence[str]) -> Quality | None:
    """The quality of each row's answers by tier; None where nothing is labelled.

    A tier without labels lies halfway between its neighbours that have them, or is like the only one. Where no tier has
    a label, all are taken to answer right: what is lost then is lost by reuse alone.
    """
    known = {tiers.index(name): column for name, column in traffic.right.items() if name in tiers}
    labelled = traffic.label != UNKNOWN
    if not known and not labelled.any():
        return None
    right = np.ones((len(tiers), len(traffic)))
    for place in range(len(tiers) if known else 0):
        below = max((other for other in known if other <= place), default=min(known))
        above = min((other for other in known if other >= place), default=max(known))
        right[place] = (known[below] + known[above]) / 2
    told = np.logical_and.reduce([column != UNKNOWN for column in known.values()]) if known else np.zeros_like(labelled)
    right[:, ~told] = 1.0
    return Quality(labelled | told, right)
