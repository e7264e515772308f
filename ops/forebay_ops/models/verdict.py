"""Whether a changed model may take the place of its original: what it loses, task by task, against what it may."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal

import msgspec
from forebay_jobs.judging.equality import equal_json, equal_texts, token_agreement
from forebay_schemas.errors import ForebayError
from forebay_workers.json_answers import is_valid

from ..statistics import Interval, interval, prompts_needed
from .jobs import Answer, Perplexity
from .prompts import Prompt

DEFAULT_TOLERANCE = 0.05
"""Shown by 72 prompts of a task that all agree; half of it takes twice as many."""
PERPLEXITY = "perplexity"
"""The name of its tolerance, beside those of the tasks: the share by which it may rise."""
DEFAULT = "default"
"""The name of the tolerance of tasks that have none of their own."""

Finding = Literal["within", "beyond", "unsure"]


class Verdict(StrEnum):
    """What the comparison comes to."""

    RECOMMEND = "recommend"
    """Every loss is shown to be within its tolerance."""
    REFUSE = "refuse"
    """A loss is shown to be beyond it."""
    TOO_FEW_PROMPTS = "too_few_prompts"
    """Neither."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One loss against its tolerance.

    Attributes:
        loss: what is lost, in words.
        of: mean and interval of the loss, as a share.
        needed: where unsure, about how many prompts would tell; None: more of them are unlikely to.
    """

    loss: str
    of: Interval
    tolerance: float
    finding: Finding
    needed: int | None = None


class TaskComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The two models on one task.

    Attributes:
        prompts: those that the original answers.
        unanswered: by the changed model, among them.
        agreement: share of equal answers.
        accuracy: of the original and of the changed model, where the right answers are known.
        invalid_json: share of answers of each model that are not the JSON asked for, where it was.
        checks: what decides.
    """

    task: str
    prompts: int
    unanswered: int
    agreement: Interval
    token_agreement: float
    accuracy: tuple[float, float] | None
    invalid_json: tuple[float, float] | None
    checks: list[Check]


class PerplexityComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The two models on a text.

    Attributes:
        rise: relative; None where the models cut the text into tokens of their own, which cannot be compared.
    """

    original: Perplexity
    changed: Perplexity
    rise: float | None
    tolerance: float


class UnknownTolerance(ForebayError):
    """A tolerance is given for something that is not compared."""


def compare_tasks(
    prompts: Sequence[Prompt], original: Sequence[Answer], changed: Sequence[Answer], tolerances: Mapping[str, float]
) -> list[TaskComparison]:
    """Compare answers task by task; a prompt that the original does not answer is left out.

    Args:
        original: the original's answers, in the order of the prompts.
        changed: the changed model's.
        tolerances: by task; ``DEFAULT`` for those that are not named.
    """
    tasks: dict[str, list[tuple[Prompt, str, str | None]]] = {}
    for prompt, one, other in zip(prompts, original, changed, strict=True):
        pairs = tasks.setdefault(prompt.task, [])
        if one.text is not None:
            pairs.append((prompt, one.text, other.text))
    default = tolerances.get(DEFAULT, DEFAULT_TOLERANCE)
    return [_compare_task(task, pairs, tolerances.get(task, default)) for task, pairs in tasks.items() if pairs]


def check_tolerances(tolerances: Mapping[str, float], tasks: Sequence[str], with_text: bool) -> None:
    """Refuse tolerances that would not be used.

    Raises:
        UnknownTolerance: naming it.
    """
    known = [*dict.fromkeys(tasks), DEFAULT, *([PERPLEXITY] if with_text else [])]
    for name in tolerances:
        if name not in known:
            mend = "give --text too" if name == PERPLEXITY else f"use one of {', '.join(known)}"
            raise UnknownTolerance(f"--tolerance {name}: no such thing is compared; {mend}")


def compare_perplexity(
    original: Perplexity, changed: Perplexity, tolerances: Mapping[str, float]
) -> PerplexityComparison:
    """Compare how well the models foretell a text."""
    comparable = original.tokens == changed.tokens
    return PerplexityComparison(
        original=original,
        changed=changed,
        rise=changed.value / original.value - 1 if comparable else None,
        tolerance=tolerances.get(PERPLEXITY, DEFAULT_TOLERANCE),
    )


def conclude(tasks: Sequence[TaskComparison], perplexity: PerplexityComparison | None) -> tuple[Verdict, list[str]]:
    """The verdict, and the reasons against a recommendation."""
    beyond, unsure = [], []
    for task in tasks:
        for check in task.checks:
            about = f"{task.task}: {check.loss} {_share(check.of)} of {task.prompts} prompts"
            if check.finding == "beyond":
                beyond.append(f"{about}, more than the tolerance of {check.tolerance:.1%}")
            elif check.finding == "unsure":
                more = f"about {check.needed} prompts would" if check.needed else "more prompts are unlikely to"
                unsure.append(f"{about}: too few to tell whether the tolerance of {check.tolerance:.1%} holds; {more}")
    if perplexity and perplexity.rise is not None and perplexity.rise > perplexity.tolerance:
        change = f"from {perplexity.original.value:.3g} to {perplexity.changed.value:.3g}"
        beyond.append(
            f"perplexity rises by {perplexity.rise:.1%} {change}, more than the tolerance of {perplexity.tolerance:.1%}"
        )
    if beyond:
        return Verdict.REFUSE, beyond + unsure
    return (Verdict.TOO_FEW_PROMPTS, unsure) if unsure else (Verdict.RECOMMEND, [])


def _compare_task(task: str, pairs: Sequence[tuple[Prompt, str, str | None]], tolerance: float) -> TaskComparison:
    agreed = [float(_agree(prompt, one, other)) for prompt, one, other in pairs]
    tokens = [0.0 if other is None else token_agreement(one, other) for _, one, other in pairs]
    right = [(_right(prompt, one), _right(prompt, other)) for prompt, one, other in pairs if prompt.answer is not None]
    invalid = [
        (_is_invalid(prompt, one), _is_invalid(prompt, other)) for prompt, one, other in pairs if prompt.wants_json
    ]
    if right:
        checks = [_check("lost accuracy", [float(one) - float(other) for one, other in right], tolerance)]
    elif pairs[0][0].compare == "tokens":
        checks = [_check("differing tokens", [1 - share for share in tokens], tolerance)]
    else:
        checks = [_check("differing answers", [1 - value for value in agreed], tolerance)]
    if invalid:
        checks.append(_check("added invalid JSON", [float(other) - float(one) for one, other in invalid], tolerance))
    return TaskComparison(
        task=task,
        prompts=len(pairs),
        unanswered=sum(other is None for _, _, other in pairs),
        agreement=interval(agreed),
        token_agreement=sum(tokens) / len(tokens),
        accuracy=_shares(right),
        invalid_json=_shares(invalid),
        checks=checks,
    )


def _agree(prompt: Prompt, one: str, other: str | None) -> bool:
    if other is None:
        return False
    by_values = equal_json(one, other) if prompt.wants_json else None
    return equal_texts(one, other) if by_values is None else by_values


def _right(prompt: Prompt, text: str | None) -> bool:
    return prompt.answer is not None and _agree(prompt, prompt.answer, text)


def _is_invalid(prompt: Prompt, text: str | None) -> bool:
    form = msgspec.json.encode(prompt.request.response_format).decode()
    return text is None or not is_valid(text, form)


def _shares(pairs: Sequence[tuple[bool, bool]]) -> tuple[float, float] | None:
    if not pairs:
        return None
    return sum(one for one, _ in pairs) / len(pairs), sum(other for _, other in pairs) / len(pairs)


def _check(loss: str, values: Sequence[float], tolerance: float) -> Check:
    of = interval(values)
    if of.high <= tolerance:
        return Check(loss=loss, of=of, tolerance=tolerance, finding="within")
    if of.low > tolerance:
        return Check(loss=loss, of=of, tolerance=tolerance, finding="beyond")
    needed = prompts_needed(values, tolerance)
    return Check(loss=loss, of=of, tolerance=tolerance, finding="unsure", needed=needed)


def _share(of: Interval) -> str:
    return f"{of.mean:.1%} ({of.low:.1%} to {of.high:.1%})"
