"""How well routers route prompts that they did not learn from: five-fold within a data set, and across two."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from forebay_jobs.router.learned import Scorer
from threadpoolctl import threadpool_limits

from ..evaluation.halves import is_test
from .curves import Curve, apgr_interval, calibration_error, curve
from .labels import FOLDS, LabelsError
from .training import Prepared, features_alone, train

Floats = npt.NDArray[np.float64]
Said = Callable[[str], None]

LEARNED, LENGTH = "learned", "length alone"
FIVE_FOLD = "itself, five-fold"
_TIMED, _ROUNDS = 200, 5
_LEAST = 100
"""Prompts of a data set below which nothing is measured on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How one way of routing did on one data set.

    Attributes:
        way: ``LEARNED`` or ``LENGTH``.
        learned_on: another data set, or ``FIVE_FOLD``; empty for a way that learns nothing.
        apgr_interval: 95 %, over prompts.
        apgr_unseen: on the half of the prompts on which nothing was ever chosen; None where the strong model is no
            better than the weak one there.
        errors: expected calibration error of the smallest and the largest tier; None for a way without chances.
    """

    way: str
    learned_on: str
    dataset: str
    prompts: int
    weak: float
    strong: float
    curve: Curve
    apgr_interval: tuple[float, float]
    apgr_unseen: float | None
    errors: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All of it.

    Attributes:
        features_us: what reading a prompt's features takes.
        alone_us, batched_us: what its chances take, given its vector and features, one by one and all at once.
    """

    weak: str
    strong: str
    measured: list[Measured]
    features_us: float
    alone_us: float
    batched_us: float


def evaluate(data: Prepared, said: Said) -> Evaluation:
    """Measure on every data set of the labels that has both ends of the ladder labelled, and a gap between them.

    Raises:
        LabelsError: no data set is large enough.
    """
    parts = parts_of(data)
    measured: list[Measured] = []
    scorers: list[Scorer] = []

    def chances(learned: Prepared, asked: Prepared) -> Floats:
        scorers.append(Scorer(train(learned, [], "evaluation")))
        return chances_of(scorers[-1], asked)

    for name, part in parts.items():
        measured += _both(part, name, FIVE_FOLD, crossed(part, chances, name, said))
    for name, part in parts.items():
        for other, learned in parts.items():
            if other != name:
                said(f"learning on {other} for {name}")
                found = _both(part, name, other, chances(learned, part))
                measured += [each for each in found if each.way == LEARNED]  # length is told above
    said("timing")
    largest = max(scorers, key=lambda scorer: scorer.weights.labels)
    return Evaluation(data.labels.tiers[0], data.labels.tiers[-1], measured, *_times(largest, data))


def parts_of(data: Prepared) -> dict[str, Prepared]:
    """The data sets on which something can be measured, by name.

    Raises:
        LabelsError: there is none.
    """
    weak, strong = data.labels.tiers[0], data.labels.tiers[-1]
    known = ~np.isnan(data.labels.right[:, [0, -1]]).any(axis=1)
    gap = np.nan_to_num(data.labels.right[:, -1] - data.labels.right[:, 0])
    names = list(dict.fromkeys(data.labels.datasets))
    rows = {name: np.flatnonzero(known & (np.array(data.labels.datasets) == name)) for name in names}
    parts = {
        name or "all": data.part(each) for name, each in rows.items() if len(each) >= _LEAST and gap[each].sum() > 0
    }
    if not parts:
        raise LabelsError(
            f"dataset: none has {_LEAST} prompts with {weak} and {strong} labelled, and {strong} right more often; give"
            " more labels, with the columns from the smallest tier to the largest"
        )
    return parts


def crossed(part: Prepared, told: Callable[[Prepared, Prepared], Floats], what: str, said: Said) -> Floats:
    """What is told of each prompt after learning from the folds that it is not in, a row a prompt.

    Args:
        told: from prompts to learn from, and prompts that are asked, to a row for each of these.
        what: for ``said``.
    """
    rows: list[npt.NDArray[np.intp]] = []
    found: list[Floats] = []
    for fold in range(FOLDS):
        said(f"{what}: fold {fold + 1} of {FOLDS}")
        left_out = part.labels.folds == fold
        rows.append(np.flatnonzero(left_out))
        found.append(told(part.part(np.flatnonzero(~left_out)), part.part(rows[-1])))
    return np.concatenate(found)[np.argsort(np.concatenate(rows))]


def lengths(part: Prepared) -> Floats:
    """Of each prompt, in characters."""
    return np.array([len(prompt) for prompt in part.labels.prompts], float)


def _both(part: Prepared, name: str, learned_on: str, chances: Floats) -> list[Measured]:
    weak, strong = part.labels.right[:, 0], part.labels.right[:, -1]
    unseen = np.array([is_test(prompt) for prompt in part.labels.prompts])
    has_gap = (strong - weak)[unseen].sum() > 0
    errors = calibration_error(chances[:, 0], weak), calibration_error(chances[:, -1], strong)
    found: list[Measured] = []
    for way, score, error in ((LEARNED, chances[:, -1] - chances[:, 0], errors), (LENGTH, lengths(part), None)):
        found.append(
            Measured(
                way=way,
                learned_on=learned_on if way == LEARNED else "",
                dataset=name,
                prompts=len(part),
                weak=float(weak.mean()),
                strong=float(strong.mean()),
                curve=curve(score, weak, strong),
                apgr_interval=apgr_interval(score, weak, strong),
                apgr_unseen=curve(score[unseen], weak[unseen], strong[unseen]).apgr if has_gap else None,
                errors=error,
            )
        )
    return found


def chances_of(scorer: Scorer, asked: Prepared) -> Floats:
    """That each tier answers a prompt well, a row a prompt."""
    chances, _ = scorer.chances(asked.labels.prompts, asked.features, asked.vectors)
    return chances.astype(np.float64)


def _times(scorer: Scorer, data: Prepared) -> tuple[float, float, float]:
    """Microseconds of one processor's time a prompt: for its features, for its chances alone, and in a batch."""
    rows = np.linspace(0, len(data) - 1, min(_TIMED, len(data))).astype(int)
    some = data.part(rows)
    features = [features_alone(prompt) for prompt in some.labels.prompts]

    def alone() -> None:
        for prompt, values, vector in zip(some.labels.prompts, features, some.vectors, strict=True):
            scorer.of(prompt, values, vector)

    with threadpool_limits(1):  # the time of threads that only wait for work counts too
        return (
            _fastest_us(lambda: [features_alone(prompt) for prompt in some.labels.prompts]) / len(rows),
            _fastest_us(alone) / len(rows),
            _fastest_us(lambda: scorer.chances(some.labels.prompts, some.features, some.vectors)) / len(rows),
        )


def _fastest_us(run: Callable[[], object]) -> float:
    """Of a few rounds: the others tell what else the machine did."""
    took: list[float] = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        run()
        took.append(time.process_time() - began)
    return 1e6 * min(took)
