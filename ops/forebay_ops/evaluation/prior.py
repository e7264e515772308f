"""Fits what a new namespace believes about reuse, from labelled streams."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from forebay_jobs.reuse.estimator import Prior
from forebay_jobs.reuse.neighbourhood import FEATURES, features

from .playing import Conditions, Equality, Near, order_of, play
from .policies import Entries
from .streams import Say, Stream

Matrix = npt.NDArray[np.float64]

WORTH_LABELS = 100
"""Labels of its own that weigh as much in a namespace. At 300 the prior held streams back that are unlike it."""
_ELSEWHERE_LOGITS = 2.0
"""How much less often two near questions have one answer in a namespace than in the streams it is fitted on: those
are labelled because they repeat. At 0, three times as many answers were wrong as expected, until there were labels."""
_ELSEWHERE_SD = 2.0
"""How much namespaces differ in that. What is so unsure is learned from the first dozens of labels."""
_RIDGE = 1.0
_LEAST_PRECISION = 0.05
"""Of weights about which the labels say nothing."""
_MOST_LABELS = 15_000
"""Of one stream, so that a long one does not outweigh the others."""
_SEED = 9
_MOST_STEPS = 50
_SMALL_STEP = 1e-8


class _Collector:
    """A player that reuses nothing, and keeps what was known about each pair with its label."""

    keeps_all = True

    def __init__(self, stream: Stream) -> None:
        self._texts = stream.texts
        self._entries = Entries(stream)
        self._asked: dict[int, tuple[list[float] | None, int]] = {}
        self.vectors: list[list[float]] = []
        self.rights: list[bool] = []

    def ask(self, place: int, near: Sequence[Near]) -> bool:
        if near:
            vector = features(self._texts[place], self._entries.candidates(near))
            self._asked[place] = vector, near[0].place
        return False

    def label(self, place: int, right: bool) -> bool:
        vector, entry = self._asked.pop(place)
        if vector is None:
            return False
        self._entries.judged(place, entry, right)
        self.vectors.append(vector)
        self.rights.append(right)
        return True


def fit_prior(streams: Sequence[Stream], models: list[str], source: str, say: Say, own: bool = False) -> Prior:
    """What the streams say of a namespace.

    The likeliest weights for all labels, with the precision of ``WORTH_LABELS`` of them; but how often two near
    questions have one answer at all, the bias, is the namespace's own.

    Args:
        own: the streams are of that very namespace, and tell that too.
        models: names of the model that embedded them.
        source: the command, to be kept with it.
    """
    collected = [_labels(stream, say) for stream in streams]
    vectors = np.concatenate([vectors for vectors, _ in collected])
    rights = np.concatenate([rights for _, rights in collected])
    mean, information = _likeliest(vectors, rights)
    covariance = np.linalg.inv(information * (WORTH_LABELS / len(vectors)) + _LEAST_PRECISION * np.eye(len(FEATURES)))
    if not own:
        bias = FEATURES.index("bias")
        mean[bias] -= _ELSEWHERE_LOGITS
        covariance[bias, bias] += _ELSEWHERE_SD**2
    return Prior(
        models=models,
        features=list(FEATURES),
        mean=mean.round(5).tolist(),
        precision=np.linalg.inv(covariance).round(5).tolist(),
        source=source,
    )


def _labels(stream: Stream, say: Say) -> tuple[Matrix, Matrix]:
    collector = _Collector(stream)
    calm = Conditions()
    play(
        stream,
        order_of(stream, _SEED),
        collector,
        Equality(stream, calm, _SEED),
        calm,
        _SEED,
        lambda asked: say(f"{stream.name}: {asked:,} of {len(stream):,} questions asked"),
    )
    drawn = np.random.default_rng(_SEED).permutation(len(collector.rights))[:_MOST_LABELS]
    return np.array(collector.vectors)[drawn], np.array(collector.rights, dtype=np.float64)[drawn]


def _likeliest(vectors: Matrix, rights: Matrix) -> tuple[Matrix, Matrix]:
    """Ridge logistic regression by Newton's method; the weights, and the information of all labels about them."""
    places = vectors.shape[1]
    mean, information = np.zeros(places), np.eye(places)
    for _ in range(_MOST_STEPS):
        expected = 1.0 / (1.0 + np.exp(-vectors @ mean))
        information = (vectors * (expected * (1 - expected))[:, None]).T @ vectors + _RIDGE * np.eye(places)
        step = np.linalg.solve(information, vectors.T @ (rights - expected) - _RIDGE * mean)
        mean = mean + step
        if np.abs(step).max() < _SMALL_STEP:
            break
    return mean, information
