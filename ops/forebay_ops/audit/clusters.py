"""What a log is about, by what it costs: its questions in clusters of like meaning."""

import math

import msgspec
import numpy as np
import numpy.typing as npt

from .questions import Questions

MOST_CLUSTERS = 50
"""So that a cluster of average cost has 2 % of the bill."""
TOP_SHARE = 0.2
LEFT_ALONE_SHARE = 0.02
_FITTED = 50_000
"""Questions from which the clusters are made; all others go to the nearest."""
_BLOCK = 16_384
_SEED = 0


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """Questions of like meaning.

    Attributes:
        calls: that ask one of them.
        questions: distinct ones.
        cost: of these calls today, in US dollars.
        share: of the bill, in [0, 1].
        top: whether it is among those that, the costliest first, make a fifth of the bill.
        central: the beginning of the question nearest to the middle; None where texts are not kept.
    """

    calls: int
    questions: int
    cost: float
    share: float
    top: bool
    central: str | None


def clusters_of(questions: Questions, bill: float) -> list[Cluster]:
    """Clusters of the questions that have a row, the costliest first.

    K-means on unit vectors (scikit-learn's mini-batch one), each question weighted by its cost, so that clusters are
    fine where the money is.

    Args:
        bill: of the whole log, US dollars.
    """
    count = len(questions)
    if not count:
        return []
    weights = questions.costs if questions.costs.any() else questions.counts.astype(np.float64)
    labels, central = _grouped(questions, weights, min(MOST_CLUSTERS, max(1, round(math.sqrt(count / 2)))))
    found: list[Cluster] = []
    for label in np.unique(labels):
        members = labels == label
        cost = float(questions.costs[members].sum())
        found.append(
            Cluster(
                calls=int(questions.counts[members].sum()),
                questions=int(members.sum()),
                cost=cost,
                share=cost / bill if bill else 0.0,
                top=False,
                central=questions.text(int(central[label])),
            )
        )
    return _with_top(sorted(found, key=lambda cluster: (-cluster.cost, -cluster.calls)))


def _grouped(
    questions: Questions, weights: npt.NDArray[np.float64], clusters: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The label of each question, and of each label the question nearest to its centre."""
    from sklearn.cluster import MiniBatchKMeans  # a second to import, and only here needed

    count = len(questions)
    drawn = np.arange(count)
    if count > _FITTED:
        drawn = np.sort(np.random.default_rng(_SEED).choice(count, _FITTED, replace=False))
    model = MiniBatchKMeans(clusters, batch_size=4_096, n_init="auto", random_state=_SEED)
    model.fit(questions.vectors(drawn), sample_weight=weights[drawn])
    labels = np.empty(count, dtype=np.int64)
    central, nearest = np.zeros(clusters, dtype=np.int64), np.full(clusters, np.inf)
    for start in range(0, count, _BLOCK):
        rows = slice(start, min(count, start + _BLOCK))
        distances = model.transform(questions.vectors(rows))
        labels[rows] = distances.argmin(axis=1)
        closest = distances.argmin(axis=0)
        closer = distances.min(axis=0) < nearest
        central[closer], nearest[closer] = start + closest[closer], distances.min(axis=0)[closer]
    return labels, central


def _with_top(clusters: list[Cluster]) -> list[Cluster]:
    """Mark the fewest that make a fifth of the bill."""
    marked: list[Cluster] = []
    covered = 0.0
    for cluster in clusters:
        marked.append(msgspec.structs.replace(cluster, top=covered < TOP_SHARE and cluster.cost > 0))
        covered += cluster.share
    return marked
