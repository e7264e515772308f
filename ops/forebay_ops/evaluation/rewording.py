"""How well it is recognised that somebody asks the same again in other words."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from forebay_jobs.reuse.rewording import REWORDED_FROM

from ..reporting.tables import Table
from ..statistics import Interval, share_interval
from .judging import Known

REWORDINGS = Path(__file__).with_name("rewordings.jsonl")
"""Written for this, after the threshold was set; English."""
THRESHOLDS = (0.7, 0.75, REWORDED_FROM, 0.85, 0.9, 0.95)


def table(name: str, pairs: Sequence[Known], cosines: npt.NDArray[np.float32]) -> Table:
    """A row for each threshold.

    Args:
        cosines: of the two questions of each pair.
    """
    rewords = np.array([pair.equal for pair in pairs])
    rows: list[tuple[str, ...]] = []
    for threshold in THRESHOLDS:
        taken = cosines >= threshold
        right = int((taken & rewords).sum())
        precision = share_interval(right, int(taken.sum())) if taken.any() else None
        recall = share_interval(right, int(rewords.sum()))
        used = " (in use)" if threshold == REWORDED_FROM else ""
        rows.append((f"{threshold:.2f}{used}", str(int(taken.sum())), *_share(precision), *_share(recall)))
    return Table(
        name="rewording",
        title=f"{name}: {int(rewords.sum())} questions asked again in other words, {int((~rewords).sum())} others",
        columns=("cosine from", "taken for it", "precision", "95 %", "recall", "95 %"),
        rows=rows,
    )


def _share(of: Interval | None) -> tuple[str, str]:
    return ("-", "") if of is None else (f"{of.mean:.1%}", f"{of.low:.1%} to {of.high:.1%}")
