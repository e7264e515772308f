"""The whole comparison of two models, from loading the first to the verdict."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError
from forebay_schemas.tiers import Backend

from .jobs import Answer, AnswerJob, PerplexityJob, Speed, Subject
from .measuring import answers_of, perplexity_of
from .prompts import Prompt
from .verdict import (
    PerplexityComparison,
    TaskComparison,
    Verdict,
    check_tolerances,
    compare_perplexity,
    compare_tasks,
    conclude,
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What both models said to one line of the prompts."""

    line: int
    task: str
    original: Answer
    changed: Answer
    answer: str | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found; speeds and perplexities in the order original, changed."""

    original: str
    changed: str
    verdict: Verdict
    reasons: list[str]
    notes: list[str]
    tasks: list[TaskComparison]
    perplexity: PerplexityComparison | None
    speed: tuple[Speed, Speed]
    rows: list[Row]


def compare_models(
    original: Subject,
    changed: Subject,
    prompts: Sequence[Prompt],
    text: str | None,
    *,
    config: Config,
    tolerances: Mapping[str, float],
    rounds: int,
    doing: Callable[[str], None],
) -> Comparison:
    """Let both models answer, one after the other in a process of its own, and judge.

    Args:
        text: what both foretell for their perplexity; None: that is left out.
        tolerances: by task, see ``verdict``.
        rounds: of which the median speed is taken.
        doing: is told what goes on.

    Raises:
        ConfigError: a model cannot be compared as it is configured.
        UnknownTolerance: a tolerance is for nothing.
        MeasuringFailed: a model cannot be measured.
    """
    check_tolerances(tolerances, [prompt.task for prompt in prompts], text is not None)
    for subject in (original, changed):  # before the first model takes an hour
        _check(subject, config, text is not None)
    perplexity = None
    if text is not None:  # first, as it fails soonest where the text or the engine does not do
        first, second = (perplexity_of(PerplexityJob(subject, text), doing) for subject in (original, changed))
        perplexity = compare_perplexity(first, second, tolerances)
    requests = [prompt.request for prompt in prompts]
    one, other = (answers_of(AnswerJob(subject, requests, rounds), doing) for subject in (original, changed))
    doing("judging")
    tasks = compare_tasks(prompts, one.answers, other.answers, tolerances)
    verdict, reasons = conclude(tasks, perplexity)
    rows = [
        Row(line=prompt.line, task=prompt.task, original=a, changed=b, answer=prompt.answer)
        for prompt, a, b in zip(prompts, one.answers, other.answers, strict=True)
    ]
    return Comparison(
        original=original.name,
        changed=changed.name,
        verdict=verdict,
        reasons=reasons,
        notes=_notes(rows, perplexity, one.speed, other.speed),
        tasks=tasks,
        perplexity=perplexity,
        speed=(one.speed, other.speed),
        rows=rows,
    )


def _check(subject: Subject, config: Config, with_text: bool) -> None:
    backend = subject.configured(config).models[subject.name].backend
    if with_text and backend is not Backend.VLLM:
        raise ConfigError(f"models.{subject.name}.backend: perplexity needs vllm, this is {backend}; leave --text out")


def _notes(rows: Sequence[Row], perplexity: PerplexityComparison | None, original: Speed, changed: Speed) -> list[str]:
    notes = []
    left_out = [row for row in rows if row.original.error is not None]
    if left_out:
        notes.append(
            f"{len(left_out)} prompts are left out, as the original does not answer them;"
            f" line {left_out[0].line}: {left_out[0].original.error}"
        )
    failed = [row for row in rows if row.original.error is None and row.changed.error is not None]
    if failed:
        notes.append(
            f"{len(failed)} prompts are answered by the original only, which counts as a difference;"
            f" line {failed[0].line}: {failed[0].changed.error}"
        )
    if perplexity and perplexity.rise is None:
        notes.append("perplexities cannot be compared: the models cut the text into different tokens")
    if changed.tokens_per_s < original.tokens_per_s:
        notes.append(f"the changed model is slower: {changed.tokens_per_s / original.tokens_per_s:.2f} times as fast")
    return notes
