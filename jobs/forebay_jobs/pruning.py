"""Which passages of a request the model is shown: those near the question, as far as their budget of tokens goes."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from forebay_schemas.canonical import question_of
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import Request
from forebay_schemas.sections import PruningConfig

from .caches.guard import StoreGuard
from .embedding import Embedder
from .messages import Arrival


@dataclass(frozen=True, slots=True)
class _Opened:
    request: Request
    question: str
    settings: PruningConfig


class Pruner:
    """Leaves passages out of requests whose category says so. Where it cannot judge them, all are shown."""

    def __init__(self, config: Config, codec: Codec, embedder: Embedder, metrics: JobMetrics) -> None:
        self._config = config
        self._codec = codec
        self._embedder = embedder
        self._metrics = metrics
        self._guard = StoreGuard("pruning", config.semantic.retry_after_ms, metrics)

    def prune(self, leaders: Sequence[Arrival]) -> list[bytes]:
        """The encoded requests as they go to the tiers; all passages are embedded in one batch."""
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
        # A question that the model reads only in part has a vector that says little about what matters to it.
        grasped = self._embedder.grasps([one.question for one in opened])
        judged = [one for one, whole in zip(opened, grasped, strict=True) if whole]
        texts = [text for one in judged for text in (one.question, *one.request.passages)]
        if not texts:
            return [None] * len(opened)
        vectors, tokens = self._embedder.embed(texts), self._embedder.count_tokens(texts)
        pruned: list[bytes | None] = []
        start = 0
        for one, whole in zip(opened, grasped, strict=True):
            if not whole:
                pruned.append(None)
                continue
            passages = one.request.passages
            rows = slice(start + 1, start + 1 + len(passages))
            kept = choose((vectors[rows] @ vectors[start]).tolist(), tokens[rows], one.settings)
            self._count(kept, tokens[rows])
            request = msgspec.structs.replace(one.request, passages=[passages[place] for place in kept])
            pruned.append(self._codec.encode(request) if len(kept) < len(passages) else None)
            start = rows.stop
        return pruned

    def _count(self, kept: Sequence[int], tokens: Sequence[int]) -> None:
        self._metrics.passages.labels("kept").inc(len(kept))
        self._metrics.passages.labels("left_out").inc(len(tokens) - len(kept))
        self._metrics.passage_tokens_saved.inc(sum(tokens) - sum(tokens[place] for place in kept))


def choose(similarities: Sequence[float], tokens: Sequence[int], settings: PruningConfig) -> list[int]:
    """The places of the passages to show, in their order.

    The nearest come first; one that does not fit into what is left of the budget makes room for the next.

    Args:
        similarities: cosine of each passage to the question.
        tokens: of each passage.
        settings: the least similarity, and the budget.
    """
    kept: list[int] = []
    left = settings.max_tokens
    for place in sorted(range(len(similarities)), key=lambda place: -similarities[place]):
        if similarities[place] >= settings.min_similarity and tokens[place] <= left:
            kept.append(place)
            left -= tokens[place]
    return sorted(kept)
