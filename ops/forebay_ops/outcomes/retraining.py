"""Learns the router anew from what became of its answers, and says whether that is better than what there is.

A fixed fifth of all questions, by their hash, is never learned from here, so what was learned before has not seen it
either. On those both are compared by their Brier score (Brier, 1950): the mean square of a chance less what came of it,
over all tiers of which that is known, each label counting for as many answers as it stands for. It needs no thresholds,
and no tier that was not asked.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from forebay_jobs.judging.similarity import Embeds
from forebay_jobs.router.learned import Scorer
from forebay_jobs.router.weights import Weights
from forebay_jobs.router.worth import interpolated
from forebay_schemas.errors import ForebayError

from ..routing.labels import Labels
from ..routing.training import Prepared, prepared, train
from ..statistics import Interval, interval
from .labels import Labelled

LEAST = 200
"""Labelled questions: 160 to learn from, and 40 on which a large gain shows."""
_FIFTH = 5

Floats = npt.NDArray[np.float64]
Said = Callable[[str], None]


class TooFew(ForebayError):
    """There are too few labels to learn from."""


@dataclass(frozen=True, slots=True)
class Retrained:
    """New weights, and how they do on questions that neither they nor the present ones learned from.

    Attributes:
        learned_from: labelled questions.
        questions: on which both are compared.
        present, new: Brier scores; less is better. Without present weights theirs is that of each tier's mean.
        gain: of the new ones, with its 95 % interval over the questions.
    """

    weights: Weights
    learned_from: int
    questions: int
    present: float
    new: float
    gain: Interval

    @property
    def better(self) -> bool:
        """Whether the new weights are, surely."""
        return self.gain.low > 0


def retrain(
    labelled: Sequence[Labelled],
    tiers: Sequence[str],
    present: Weights | None,
    embedder: Embeds,
    models: list[str],
    said: Said = lambda _: None,
) -> Retrained:
    """Learn from labels; the same from the same.

    Args:
        tiers: from the smallest to the largest.
        present: the weights in use; None where rules route.
        models: names of the embedding model.

    Raises:
        TooFew: naming what is missing.
    """
    if len(labelled) < LEAST:
        raise TooFew(
            f"{len(labelled):,} labelled questions, and it takes {LEAST}: raise audits.share, or give a longer --since"
        )
    said(f"embedding {len(labelled):,} questions")
    data = _prepared(labelled, tiers, embedder)
    out = np.array([_held_out(prompt) for prompt in data.labels.prompts], dtype=bool)
    learned, held = data.part(np.flatnonzero(~out)), data.part(np.flatnonzero(out))
    if not len(learned) or not len(held):
        raise TooFew("the questions are too much alike to keep some of them apart; wait for others")
    weights = train(learned, models, "forebay router retrain", said)
    standing = np.where(np.isnan(learned.labels.right), 0, learned.labels.weight)
    usual = (standing * np.nan_to_num(learned.labels.right)).sum(axis=0) / standing.sum(axis=0)
    new = _squares(Scorer(weights), held, usual)
    old = _squares(Scorer(present) if present else None, held, usual)
    stands = np.where(np.isnan(held.labels.right), 0, held.labels.weight).sum(axis=1)
    return Retrained(
        weights=weights,
        learned_from=len(learned),
        questions=len(held),
        present=float(np.average(old, weights=stands)),
        new=float(np.average(new, weights=stands)),
        gain=interval((old - new).tolist(), weights=stands.tolist()),
    )


def _prepared(labelled: Sequence[Labelled], tiers: Sequence[str], embedder: Embeds) -> Prepared:
    whole = embedder.grasps([each.question for each in labelled])
    read = [each for each, grasped in zip(labelled, whole, strict=True) if grasped]
    known = [tier for tier in tiers if any(tier in each.right for each in read)]
    if missing := [tier for tier in (tiers[0], tiers[-1]) if tier not in known]:
        raise TooFew(f"nothing is known of the answers of {' and '.join(missing)}: wait for audits of them")
    right = np.array([[float(each.right.get(tier, np.nan)) for tier in known] for each in read])
    weight = np.array([[float(each.weight.get(tier, 1)) for tier in known] for each in read])
    questions = [each.question for each in read]
    return prepared(Labels(questions, known, right, weight, [""] * len(read)), embedder.embed(questions))


def _held_out(question: str) -> bool:
    return hashlib.sha256(question.encode()).digest()[4] % _FIFTH == 0


def _squares(scorer: Scorer | None, data: Prepared, usual: Floats) -> Floats:
    """Of each question, the mean square over the labels of it."""
    chances = np.tile(usual, (len(data), 1))
    tiers = data.labels.tiers
    if scorer is not None:
        found, familiar = scorer.chances(data.labels.prompts, data.features, data.vectors)
        of = [interpolated(dict(zip(scorer.weights.tiers, row, strict=True)), tiers) for row in found.tolist()]
        learned = np.array([[each[tier] for tier in tiers] for each in of])
        chances = np.where(familiar[:, None], learned, chances)  # the others go by rules
    stands = np.where(np.isnan(data.labels.right), 0, data.labels.weight)
    squares = (chances - np.nan_to_num(data.labels.right)) ** 2
    return (stands * squares).sum(axis=1) / stands.sum(axis=1)
