"""The tables of an evaluation, for the terminal and the page."""

from ..reporting.tables import Table
from .evaluation import FIVE_FOLD, LEARNED, Evaluation, Measured

GOALS = {"mmlu": 0.68, "gsm8k": 0.64}
"""APGR, five-fold, on the half of the prompts on which nothing was chosen; the best published, on all of them, are .603
and .622 (RouteLLM)."""
_MOST_ERROR = 0.05
_MOST_US = 200


def table(evaluation: Evaluation) -> Table:
    """A row for each way of routing each data set."""
    return Table(
        name="routing",
        title=_title(evaluation),
        columns=("data set, learned on", "CPT50", "CPT80", "APGR", "95 %", "unseen half", "ECE", "goal, there"),
        rows=[_row(one, evaluation) for one in evaluation.measured],
    )


def _title(evaluation: Evaluation) -> str:
    sets = {one.dataset: one for one in evaluation.measured}.values()
    sizes = [
        f"{one.dataset}: {one.prompts:,} prompts, {evaluation.weak} right at {one.weak:.1%}, {evaluation.strong} at"
        f" {one.strong:.1%}"
        for one in sets
    ]
    return "; ".join(sizes)


def timing(evaluation: Evaluation) -> str:
    """How long scoring takes, in a line."""
    whole = evaluation.features_us + evaluation.alone_us
    met = "met" if whole < _MOST_US else "missed"
    return (
        f"scoring a prompt given its vector takes {whole:.0f} µs (goal {_MOST_US} µs: {met}): its features"
        f" {evaluation.features_us:.0f} µs, its chances {evaluation.alone_us:.0f} µs alone and"
        f" {evaluation.batched_us:.0f} µs in a batch"
    )


def _row(one: Measured, evaluation: Evaluation) -> tuple[str, ...]:
    low, high = one.apgr_interval
    return (
        f"{one.dataset}, {one.learned_on or one.way}",
        f"{one.curve.cpt(0.5):.1%}",
        f"{one.curve.cpt(0.8):.1%}",
        f"{one.curve.apgr:.3f}",
        f"{low:.3f} to {high:.3f}",
        "" if one.apgr_unseen is None else f"{one.apgr_unseen:.3f}",
        "" if one.errors is None else " ".join(f"{error:.3f}" for error in one.errors),
        _goal(one, evaluation),
    )


def _goal(one: Measured, evaluation: Evaluation) -> str:
    if one.way != LEARNED:
        return ""
    missed: list[str] = []
    if one.learned_on == FIVE_FOLD:
        goal = GOALS.get(one.dataset)
        if goal is not None and _judged(one) < goal:
            missed.append(f"APGR {goal:.2f} by {goal - _judged(one):.3f}")
        if one.errors and max(one.errors) >= _MOST_ERROR:
            missed.append(f"ECE {_MOST_ERROR}")
    else:
        plain = [each for each in evaluation.measured if each.dataset == one.dataset and each.way != LEARNED]
        if any(_judged(one) <= _judged(each) for each in plain):
            missed.append("better than length")
    return "missed: " + ", ".join(missed) if missed else "met"


def _judged(one: Measured) -> float:
    """The APGR by which a goal is met or missed: of the unseen half, as the other half's was chosen by."""
    return one.curve.apgr if one.apgr_unseen is None else one.apgr_unseen
