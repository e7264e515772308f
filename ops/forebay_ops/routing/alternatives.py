"""Other ways to learn which tier will do, measured beside the scorer in use: what was tried, and what it is worth.

Each learns how much better the strong model answers a prompt than the weak one. They are measured on the half of the
prompts on which the constants of the scorer were chosen; the other half stays unseen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from forebay_jobs.router.learned import Scorer

from ..evaluation.halves import is_test
from ..reporting.tables import Table
from .curves import apgr_interval, curve
from .evaluation import LENGTH, chances_of, crossed, lengths, parts_of
from .training import Prepared, rarity_of, train, wording_of

Floats = npt.NDArray[np.float64]
Said = Callable[[str], None]
Score = Callable[[Prepared, Prepared], Floats]
"""From prompts to learn from, and prompts that are asked, to what the strong model is worth to each of these."""
Columns = Callable[[Prepared, Prepared], tuple[Any, Any]]
"""What a regression reads of both."""

IN_USE = "the scorer in use"
_CENTRES, _NEIGHBOURS, _COMPONENTS = 500, 150, 40


@dataclass(frozen=True, slots=True)
class Tried:
    """One way on one data set: its APGR on the half that was chosen on, with the 95 % interval over prompts."""

    way: str
    dataset: str
    apgr: float
    interval: tuple[float, float]


def compare(data: Prepared, said: Said) -> list[Tried]:
    """Measure all ways, five-fold within each data set.

    Raises:
        LabelsError: no data set is large enough.
    """
    found: list[Tried] = []
    for name, part in parts_of(data).items():
        chosen_on = np.array([not is_test(prompt) for prompt in part.labels.prompts])
        weak, strong = part.labels.right[chosen_on, 0], part.labels.right[chosen_on, -1]
        for way, score in _ways().items():
            scores = crossed(part, score, f"{name}, {way}", said)[chosen_on]
            apgr = curve(scores, weak, strong).apgr
            found.append(Tried(way, name, apgr, apgr_interval(scores, weak, strong)))
    return found


def comparison(tried: list[Tried]) -> Table:
    """A row for each way, with the figures of each data set."""
    datasets = list(dict.fromkeys(one.dataset for one in tried))
    rows: dict[str, list[str]] = {}
    for one in tried:
        rows.setdefault(one.way, []).extend((f"{one.apgr:.3f}", "{:.3f} to {:.3f}".format(*one.interval)))
    return Table(
        name="tried",
        title="What was tried: five-fold APGR on the half that constants were chosen on",
        columns=("learned by", *(column for name in datasets for column in (name, "95 %"))),
        rows=[(way, *figures) for way, figures in rows.items()],
    )


def _ways() -> dict[str, Score]:
    from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor  # seconds to import
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline

    def kernel(count: int) -> Any:
        return make_pipeline(Nystroem(gamma=1.0, n_components=min(_CENTRES, count), random_state=0), Ridge(1.0))

    def neighbours(count: int) -> Any:
        return KNeighborsRegressor(min(_NEIGHBOURS, count), algorithm="brute")

    return {
        LENGTH: lambda _, asked: lengths(asked),
        "ridge, vector and features": _regression(_both, lambda _: Ridge(10.0)),
        "kernel on vectors, 500 centres": _regression(_vectors, kernel),
        "150 nearest vectors": _regression(_vectors, neighbours),
        "ridge, runs of characters": _regression(_wording, lambda _: Ridge(10.0, solver="sparse_cg", tol=1e-4)),
        "gradient boosting": _regression(
            _components, lambda _: HistGradientBoostingRegressor(learning_rate=0.05, max_depth=4, random_state=0)
        ),
        "extra trees": _regression(
            _components, lambda _: ExtraTreesRegressor(300, min_samples_leaf=10, n_jobs=-1, random_state=0)
        ),
        "a small neural network": _regression(
            _both, lambda _: MLPRegressor(hidden_layer_sizes=(32,), alpha=1.0, early_stopping=True, random_state=0)
        ),
        IN_USE: _in_use,
    }


def _in_use(learned: Prepared, asked: Prepared) -> Floats:
    chances = chances_of(Scorer(train(learned, [], "comparison")), asked)
    return chances[:, -1] - chances[:, 0]


def _regression(columns: Columns, made: Callable[[int], Any]) -> Score:
    """By a regression of the gain; it is made for so many prompts to learn from."""

    def score(learned: Prepared, asked: Prepared) -> Floats:
        known, wanted = columns(learned, asked)
        gain = learned.labels.right[:, -1] - learned.labels.right[:, 0]
        return made(len(learned)).fit(known, gain).predict(wanted)

    return score


def _vectors(learned: Prepared, asked: Prepared) -> tuple[Any, Any]:
    return learned.vectors, asked.vectors


def _both(learned: Prepared, asked: Prepared) -> tuple[Any, Any]:
    return np.hstack([learned.vectors, learned.features]), np.hstack([asked.vectors, asked.features])


def _components(learned: Prepared, asked: Prepared) -> tuple[Any, Any]:
    """The vectors' principal components, of which trees make more than of hundreds of numbers, and the features."""
    from sklearn.decomposition import PCA

    main = PCA(min(_COMPONENTS, *learned.vectors.shape), random_state=0).fit(learned.vectors)
    known, wanted = (np.hstack([main.transform(part.vectors), part.features]) for part in (learned, asked))
    return known, wanted


def _wording(learned: Prepared, asked: Prepared) -> tuple[Any, Any]:
    rarity = rarity_of(learned.labels.prompts)
    return wording_of(learned.labels.prompts, rarity), wording_of(asked.labels.prompts, rarity)
