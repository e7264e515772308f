"""Learns the router anew from what became of its answers, and says whether that is better than what there is.

A fixed fifth of all questions, by their hash, is never learned from here, so what was learned before has not seen it
either. Questions that are equal but for case, spacing and the marks around them are one. On that fifth both are
compared by their Brier score (Brier, 1950): the mean square of a chance less what came of it, over all tiers of which
that is known, each label counting for as many answers as it stands for. It needs no thresholds, and no tier that was
not asked. It says nothing of the routes that follow: those a rollout measures.

Rules tell a complexity and no chances. Where they route, it is turned into each tier's chance by the logistic function
that fits the labels best (Platt, 1999): so new weights have to be better than all that the rules can tell.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from forebay_jobs.judging.equality import normalise
from forebay_jobs.judging.similarity import Embeds
from forebay_jobs.router import rules
from forebay_jobs.router.features import FEATURES
from forebay_jobs.router.learned import Scorer
from forebay_jobs.router.weights import Weights
from forebay_jobs.router.worth import interpolated
from forebay_schemas.errors import ForebayError

from ..routing.labels import LEAST_OF_A_CLASS, Labels
from ..routing.training import Prepared, calibrated, features_alone, train
from ..statistics import Interval, interval
from .labels import Labelled

LEAST = 200
"""Different labelled questions: some 160 to learn from, and 40 to compare on."""
LEAST_COMPARED = 40
"""Different questions below which no gain is sure: an interval over fewer is too narrow."""
_FIFTH = 5

Floats = npt.NDArray[np.float64]
Said = Callable[[str], None]


class TooFew(ForebayError):
    """There are too few labels to learn from."""


@dataclass(frozen=True, slots=True)
class Retrained:
    """New weights, and how they do on questions that neither they nor the present ones learned from.

    Attributes:
        learned_from: different labelled questions.
        questions: different ones on which both are compared, at least ``LEAST_COMPARED``.
        present, new: Brier scores; less is better. Where rules route, theirs.
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
    _check_count(len(_different(labelled)), LEAST, "labelled questions")
    whole = embedder.grasps([each.question for each in labelled])
    read = [each for each, grasped in zip(labelled, whole, strict=True) if grasped]
    to_learn = [each for each in read if not _held_out(each.question)]
    known = _learnable(to_learn, tiers)
    to_compare = [each for each in read if _held_out(each.question) and any(tier in each.right for tier in known)]
    _check_count(len(_different(to_compare)), LEAST_COMPARED, "questions apart from those to learn from")
    said(f"embedding {len(read):,} questions")
    learned, held = _prepared(to_learn, known, embedder), _prepared(to_compare, known, embedder)
    weights = train(learned, models, "forebay router retrain", said)
    by_rules = _chances_by_rules(learned, held)
    old, stands = _by_question(_squares(Scorer(present) if present else None, held, by_rules), held)
    new, _ = _by_question(_squares(Scorer(weights), held, by_rules), held)
    return Retrained(
        weights=weights,
        learned_from=len(_different(to_learn)),
        questions=len(new),
        present=float(np.average(old, weights=stands)),
        new=float(np.average(new, weights=stands)),
        gain=interval((old - new).tolist(), weights=stands.tolist()),
    )


def _check_count(count: int, least: int, what: str) -> None:
    if count < least:
        raise TooFew(
            f"{count:,} {what}, and it takes {least}; equal ones count once: raise audits.share, or give a longer"
            " --since"
        )


def _different(labelled: Sequence[Labelled]) -> set[str]:
    return {normalise(each.question) for each in labelled}


def _learnable(labelled: Sequence[Labelled], tiers: Sequence[str]) -> list[str]:
    """The tiers of which enough is known. One between that is not among them lies between its neighbours.

    The largest tier may be right throughout: the others are measured by it.

    Raises:
        TooFew: an end of the ladder is not among them.
    """
    found: list[str] = []
    for tier in tiers:
        good, bad = (
            len(_different([each for each in labelled if each.right.get(tier) is right])) for right in (True, False)
        )
        if (good if tier == tiers[-1] else min(good, bad)) >= LEAST_OF_A_CLASS:
            found.append(tier)
        elif tier in (tiers[0], tiers[-1]):
            of = "good ones" if tier == tiers[-1] else "each"
            raise TooFew(
                f"{tier}: {good:,} good and {bad:,} bad answers to questions to learn from, and it takes"
                f" {LEAST_OF_A_CLASS} of {of}: raise audits.share, or give a longer --since"
            )
    return found


def _prepared(labelled: Sequence[Labelled], tiers: list[str], embedder: Embeds) -> Prepared:
    some = [each for each in labelled if any(tier in each.right for tier in tiers)]
    right = np.array([[float(each.right.get(tier, np.nan)) for tier in tiers] for each in some])
    weight = np.array([[float(each.weight.get(tier, 1)) for tier in tiers] for each in some])
    questions = [each.question for each in some]
    features = [[values[name] for name in FEATURES] for values in map(_features, some)]
    labels = Labels(questions, tiers, right, weight, [""] * len(some))
    return Prepared(labels, np.array(features, np.float32), embedder.embed(questions))


def _features(labelled: Labelled) -> Mapping[str, float]:
    """As the request had them, earlier turns and passages included; where they are not known, of the question alone."""
    alone = features_alone(labelled.question)
    if not labelled.features.keys() >= set(FEATURES):
        return alone
    # A route by learned weights says that the question is recognised, which is not what the scorer read.
    return {**labelled.features, "recognised": alone["recognised"]}


def _held_out(question: str) -> bool:
    return hashlib.sha256(normalise(question).encode()).digest()[4] % _FIFTH == 0


def _stands(data: Prepared) -> Floats:
    """For how many answers each label stands; 0 where there is none."""
    return np.where(np.isnan(data.labels.right), 0, data.labels.weight)


def _by_question(squares: Floats, data: Prepared) -> tuple[Floats, Floats]:
    """The mean of each different question, and for how many labels it stands."""
    _, places = np.unique([normalise(prompt) for prompt in data.labels.prompts], return_inverse=True)
    each = _stands(data).sum(axis=1)
    stands = np.bincount(places, each).astype(np.float64)
    return np.bincount(places, each * squares) / stands, stands


def _chances_by_rules(learned: Prepared, asked: Prepared) -> Floats:
    """Of each question that is asked each tier's chance, as the rules' complexity tells it; see the module."""
    known, complexity = (np.array([rules.score(row).complexity for row in _named(part)]) for part in (learned, asked))
    labels = learned.labels
    fits = [calibrated(known, *each) for each in zip(labels.right.T, labels.weight.T, strict=True)]
    return np.stack([1 / (1 + np.exp(-(slope * complexity + intercept))) for slope, intercept, _ in fits], axis=1)


def _named(data: Prepared) -> list[dict[str, float]]:
    return [dict(zip(FEATURES, row, strict=True)) for row in data.features.tolist()]


def _squares(scorer: Scorer | None, data: Prepared, by_rules: Floats) -> Floats:
    """Of each label's row, the mean square over what it tells."""
    chances, tiers = by_rules, data.labels.tiers
    if scorer is not None:
        found, familiar = scorer.chances(data.labels.prompts, data.features, data.vectors)
        of = [interpolated(dict(zip(scorer.weights.tiers, row, strict=True)), tiers) for row in found.tolist()]
        learned = np.array([[each[tier] for tier in tiers] for each in of])
        chances = np.where(familiar[:, None], learned, by_rules)
    stands = _stands(data)
    squares = (chances - np.nan_to_num(data.labels.right)) ** 2
    return (stands * squares).sum(axis=1) / stands.sum(axis=1)
