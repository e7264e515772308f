"""The judge: whether two answers to one question agree, decided by what is cheapest first."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from forebay_schemas.categories import JudgeConfig
from forebay_schemas.config import Config

from .details import Details, compare_details
from .equality import equal_json, equal_texts
from .similarity import Embeds, similarities


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two answers to one question.

    Attributes:
        category: of the request, whose settings hold.
        as_json: whether the request asked for a format, so that JSON counts by its values whatever the category says.
    """

    category: str
    one: str
    other: str
    as_json: bool = False


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Whether two answers agree.

    Attributes:
        equal: None where it cannot be said; then nothing is to be learned from it.
        by: what decided, or came last.
        score: cosine of the answers, in [-1, 1], where it was needed.
    """

    equal: bool | None
    by: Literal["text", "json", "details", "embedding", "model"]
    score: float | None = None


class Judge:
    """Judges by the settings of the category, ``categories.<name>.judge``.

    A category that is judged by the large tier too (``by = "model"``) is judged here like ``auto``: what that leaves
    open (``model_share``) is for the caller to ask, see ``model``.
    """

    def __init__(self, config: Config, embedder: Embeds) -> None:
        self._config = config
        self._embedder = embedder

    def agree(self, category: str, one: str, other: str, *, as_json: bool = False) -> Agreement:
        """Judge two answers; see ``agree_all``."""
        (found,) = self.agree_all([Pair(category=category, one=one, other=other, as_json=as_json)])
        return found

    def agree_all(self, pairs: Sequence[Pair]) -> list[Agreement]:
        """Judge many pairs; those that words alone do not decide are embedded in one batch.

        Raises:
            Exception: what the embedder raises.
        """
        settings = [self._config.category(pair.category).judge for pair in pairs]
        found = [by_words(pair, setting) for pair, setting in zip(pairs, settings, strict=True)]
        open_ = [place for place, agreement in enumerate(found) if agreement is None]
        scores = similarities(self._embedder, [(pairs[place].one, pairs[place].other) for place in open_])
        for place, score in zip(open_, scores, strict=True):
            found[place] = by_meaning(pairs[place], score, settings[place])
        return [agreement for agreement in found if agreement is not None]

    def model_share(self, category: str, agreement: Agreement) -> float:
        """The chance, in [0, 1], with which the large tier is to be asked what this leaves open."""
        judge = self._config.category(category).judge
        return judge.model_share if agreement.equal is None and judge.by == "model" else 0.0


def by_words(pair: Pair, judge: JudgeConfig) -> Agreement | None:
    """What words and values alone decide; None where the embeddings have to."""
    if pair.as_json or judge.by in ("auto", "json", "model"):
        equal = equal_json(pair.one, pair.other)
        if equal is not None:
            return Agreement(equal=equal, by="json")
    if equal_texts(pair.one, pair.other):
        return Agreement(equal=True, by="text")
    if judge.by in ("text", "json"):
        return Agreement(equal=False, by="text")
    if compare_details(pair.one, pair.other) is Details.CONTRADICTORY:
        return Agreement(equal=False, by="details")
    return None


def by_meaning(pair: Pair, score: float | None, judge: JudgeConfig) -> Agreement:
    """What the cosine decides: equal from ``equal_from`` up, unless a detail is in doubt; different below
    ``different_below``; open in between."""
    if score is None:
        return Agreement(equal=None, by="embedding")
    if score < judge.different_below:
        return Agreement(equal=False, by="embedding", score=score)
    if score < judge.equal_from:
        return Agreement(equal=None, by="embedding", score=score)
    if compare_details(pair.one, pair.other) is Details.DOUBTFUL:
        return Agreement(equal=None, by="details", score=score)
    return Agreement(equal=True, by="embedding", score=score)
