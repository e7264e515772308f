"""Adds up what became of requests: first by status and case, once for all prices and tiers, then as figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from forebay_schemas.config import Config
from forebay_schemas.prices import baseline_cost, cost
from forebay_schemas.records import REUSED, Lane, Usage
from forebay_schemas.tiers import Price

from .behaviour import Behaviour
from .figures import Figures
from .play import Played
from .quality import Quality, Rows, quality_of
from .traffic import COMPLETION, GENERATED, PROMPT, STATUSES, Floats, Ints, Recorded, Traffic

_LANES = tuple(Lane)
_MANY = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Rows added up by status and by the case of the request for which the answer was generated: shape (status, case).

    Attributes:
        tokens: of the answers; one dimension more, as ``TOKENS``.
        completions: their completion tokens if each tier wrote them, cut off where its limit is; one dimension more.
        right: how many of the labelled ones would be answered right if each tier wrote the answer; one dimension more.
        right_largest: how many of them the largest tier would answer right if each were generated.
    """

    requests: Floats
    tokens: Floats
    completions: Floats
    labelled: Floats
    wrong: Floats
    right: Floats
    right_largest: Floats


def count(traffic: Traffic, played: Played, config: Config, quality: Quality | None, rows: Rows) -> Cells:
    """Add rows up."""
    source, cases = played.source[rows], len(traffic.cases)
    cell = played.status[rows] * np.int64(cases) + traffic.case[source]

    def cells(weights: Any = None) -> Floats:
        return np.bincount(cell, weights, len(STATUSES) * cases).reshape(len(STATUSES), cases).astype(float)

    tokens = traffic.tokens[source]
    limits = [tier.max_tokens for tier in config.tiers.values()]
    nothing = np.zeros((len(STATUSES), cases))
    labelled = wrong = largest = nothing
    right = np.stack([nothing] * len(limits), axis=-1)
    if quality is not None:
        known, other = quality.judged(traffic, source, rows)
        labelled, wrong = cells(known), cells(other)
        right = np.stack([cells(known * ~other * of_tier[source]) for of_tier in quality.right], axis=-1)
        largest = cells(known * quality.right[-1][rows])
    return Cells(
        requests=cells(),
        tokens=np.stack([cells(column) for column in tokens.T], axis=-1),
        completions=np.stack([cells(np.minimum(tokens[:, COMPLETION], limit)) for limit in limits], axis=-1),
        labelled=labelled,
        wrong=wrong,
        right=right,
        right_largest=largest,
    )


def figures_of(cells: Cells, traffic: Traffic, tier: Ints, config: Config, behaviour: Behaviour) -> dict[str, Figures]:
    """The figures of each category, by its name.

    Args:
        tier: of each case, where the router sends it, as its place in the configuration.
    """
    names, category = _categories(traffic)
    paid, baseline = _dollars(cells, traffic, tier, config, behaviour)
    right = cells.right[:, np.arange(len(tier)), tier]
    return _by_category(
        names,
        category,
        list(config.tiers),
        tier,
        generated=cells.requests[GENERATED].sum(axis=0),
        paid=paid,
        requests=cells.requests.sum(axis=0),
        **{status.value: cells.requests[STATUSES.index(status)] for status in REUSED},
        baseline_cost=baseline,
        labelled=cells.labelled.sum(axis=0),
        wrong=cells.wrong.sum(axis=0),
        lost=(cells.right_largest - right).sum(axis=0),
    )


def recorded_figures(
    traffic: Traffic, recorded: Recorded, config: Config, rows: Rows = slice(None)
) -> dict[str, Figures]:
    """The figures of each category as they were recorded, by its name."""
    names, of_case = _categories(traffic)
    status, source = recorded.status[rows], recorded.source[rows]
    known = wrong = lost = np.zeros(len(status))
    quality = quality_of(traffic, list(config.tiers))
    if quality is not None:
        known, wrong = quality.judged(traffic, source, rows)
        right = quality.right[recorded.tier[source], source]
        lost = known * (quality.right[-1][rows] - ~wrong * right)
    return _by_category(
        names,
        of_case[traffic.case[rows]],
        list(config.tiers),
        recorded.tier[rows],
        generated=np.isin(status, GENERATED),
        paid=recorded.cost[rows],
        requests=np.ones(len(status)),
        **{each.value: status == STATUSES.index(each) for each in REUSED},
        baseline_cost=recorded.baseline_cost[rows],
        labelled=known,
        wrong=wrong,
        lost=lost,
    )


def _by_category(
    names: Sequence[str],
    category: Ints,
    tiers: Sequence[str],
    tier: Ints,
    *,
    generated: Any,
    paid: Floats,
    **columns: Any,
) -> dict[str, Figures]:
    """Add up what cases, or rows, come to; of each its category and its tier are given as places."""

    def added_up(values: Any) -> list[Any]:
        return np.bincount(category, values, len(names)).tolist()

    cost, sums = added_up(paid), {name: added_up(values) for name, values in columns.items()}
    by_tier = {name: added_up(generated * (tier == place)) for place, name in enumerate(tiers)}
    cost_by_tier = {name: added_up(paid * (tier == place)) for place, name in enumerate(tiers)}
    whole = {"requests", "exact", "semantic", "joined", "labelled", "wrong"}
    return {
        name: Figures(
            **{column: round(values[place]) if column in whole else values[place] for column, values in sums.items()},
            by_tier={each: round(values[place]) for each, values in by_tier.items()},
            cost_by_tier={each: values[place] for each, values in cost_by_tier.items()},
            cost=cost[place],
        )
        for place, name in enumerate(names)
    }


def _categories(traffic: Traffic) -> tuple[list[str], Ints]:
    """The names of all categories, and of each case the place of its own among them."""
    names = sorted({kind.category for kind in traffic.kinds})
    of_kind = np.array([names.index(kind.category) for kind in traffic.kinds])
    return names, of_kind[np.array([case.kind for case in traffic.cases])]


def _dollars(cells: Cells, traffic: Traffic, tier: Ints, config: Config, behaviour: Behaviour) -> tuple[Floats, Floats]:
    """Of each case what was paid, and what the largest tier would have cost.

    A price is linear in the tokens, so they are added up before they are priced.
    """
    lanes = np.array([_LANES.index(traffic.kinds[case.kind].lane) for case in traffic.cases])
    rates = np.array([[_rates(config.price(name), lane) for name in config.tiers] for lane in _LANES])
    prompts, answers = behaviour.shares_of(list(config.tiers))
    read = cells.tokens[GENERATED].sum(axis=0)
    paid = np.zeros(len(tier))
    for place in range(len(config.tiers)):
        tokens = read * prompts[tier, place, np.newaxis]
        tokens[:, COMPLETION] = cells.completions[GENERATED, :, place].sum(axis=0) * answers[tier, place]
        paid += (tokens * rates[lanes, place]).sum(axis=1)
    prompt = cells.tokens[:, :, PROMPT].sum(axis=0)
    completion = cells.completions[:, np.arange(len(tier)), tier].sum(axis=0)
    of_prompt = baseline_cost(Usage(prompt_tokens=_MANY), config) / _MANY
    of_completion = baseline_cost(Usage(completion_tokens=_MANY), config) / _MANY
    return paid, prompt * of_prompt + completion * of_completion


def _rates(price: Price, lane: Lane) -> list[float]:
    """US dollars for one more token of each of ``TOKENS``: a cached prompt token is one that is not read anew."""
    prompt = cost(Usage(prompt_tokens=_MANY), price, lane)
    return [
        prompt / _MANY,
        cost(Usage(completion_tokens=_MANY), price, lane) / _MANY,
        (cost(Usage(prompt_tokens=_MANY, cached_prompt_tokens=_MANY), price, lane) - prompt) / _MANY,
        (cost(Usage(prompt_tokens=_MANY, cache_write_prompt_tokens=_MANY), price, lane) - prompt) / _MANY,
    ]
