"""Which passages of a request the model is shown: those near the question, as far as their budget of tokens goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from forebay_schemas.canonical import question_of
from forebay_schemas.categories import PruningConfig
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import Request

from .caches.guard import StoreGuard
from .embedding import Embedder
from .messages import Arrival
from .relevance import Asked, Cosine, Scorer


@dataclass(frozen=True, slots=True)
class _Opened:
    request: Request
    question: str
    settings: PruningConfig


class Pruner:
    """Leaves passages out of requests whose category says so. Where it cannot judge them, all are shown."""

    def __init__(
        self,
        config: Config,
        codec: Codec,
        embedder: Embedder,
        cross_encoders: Mapping[str, Scorer],
        metrics: JobMetrics,
    ) -> None:
        self._config = config
        self._codec = codec
        self._embedder = embedder
        self._scorers: dict[str | None, Scorer] = {None: Cosine(embedder), **cross_encoders}
        self._metrics = metrics
        self._guard = StoreGuard("pruning", config.semantic.retry_after_ms, metrics)

    def prune(self, leaders: Sequence[Arrival]) -> list[bytes]:
        """The encoded requests as they go to the tiers; all that one model judges, it gets in one batch."""
        opened = {place: one for place, leader in enumerate(leaders) if (one := self._open(leader))}
        pruned = self._guard.call(lambda: self._choose([*opened.values()]), [None] * len(opened)) if opened else []
        changed = dict(zip(opened, pruned, strict=True))
        return [changed.get(place) or leader.request for place, leader in enumerate(leaders)]

    def _open(self, leader: Arrival) -> _Opened | None:
        """The leader's request where there may be something to leave out."""
        settings = self._config.category(leader.asker.category).pruning
        if settings is None:
            return None
        try:
            request = self._codec.decode(leader.request, Request)
        except RecordError:
            return None  # its flight is given up where its task is made
        question = question_of(request)
        return _Opened(request, question, settings) if request.passages and question else None

    def _choose(self, opened: Sequence[_Opened]) -> list[bytes | None]:
        """The encoded requests without what is left out; None where passages cannot be judged or all are shown."""
        pruned: list[bytes | None] = [None] * len(opened)
        for name, scorer in self._scorers.items():
            places = [place for place, one in enumerate(opened) if one.settings.cross_encoder == name]
            grasped = scorer.grasps([opened[place].question for place in places])
            judged = [place for place, whole in zip(places, grasped, strict=True) if whole]
            if judged:
                asked = [Asked(opened[place].question, opened[place].request.passages) for place in judged]
                for place, scores in zip(judged, scorer.score(asked), strict=True):
                    pruned[place] = self._without_the_rest(opened[place], scores)
        return pruned

    def _without_the_rest(self, one: _Opened, scores: Sequence[float]) -> bytes | None:
        passages = one.request.passages
        tokens = self._embedder.count_tokens(passages)
        kept = choose(scores, tokens, one.settings)
        self._count(kept, tokens)
        if len(kept) == len(passages):
            return None
        return self._codec.encode(msgspec.structs.replace(one.request, passages=[passages[place] for place in kept]))

    def _count(self, kept: Sequence[int], tokens: Sequence[int]) -> None:
        self._metrics.passages.labels("kept").inc(len(kept))
        self._metrics.passages.labels("left_out").inc(len(tokens) - len(kept))
        self._metrics.passage_tokens_saved.inc(sum(tokens) - sum(tokens[place] for place in kept))


def choose(scores: Sequence[float], tokens: Sequence[int], settings: PruningConfig) -> list[int]:
    """The places of the passages to show, in their order.

    Those that matter most come first; one that does not fit into what is left of the budget makes room for the next.

    Args:
        scores: of each passage, in [-1, 1].
        tokens: of each passage.
        settings: the least score, and the budget.
    """
    kept: list[int] = []
    left = settings.max_tokens
    for place in sorted(range(len(scores)), key=lambda place: -scores[place]):
        if scores[place] >= settings.min_similarity and tokens[place] <= left:
            kept.append(place)
            left -= tokens[place]
    return sorted(kept)
