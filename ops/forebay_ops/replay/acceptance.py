"""The acceptance run: a support desk's traffic, and what it has to come to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..demo.script import DEFAULTS
from ..traces.arrivals import Arrival
from ..traces.pacing import poisson
from ..traces.texts import LabelledText, drawn, with_texts
from .account import Account

QUERIES = 5_000
LEAST_SAVED = 0.80
"""Of what the largest tier would have cost."""
MOST_WRONG = 0.003
"""Of all requests."""

FIELDS: dict[str, Any] = DEFAULTS | {
    "tenant": "acceptance",
    "endpoint": "/support",
    "system": "You are a support desk. Answer in one short sentence.",
}
"""What every request has besides its question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One goal, and what was measured: shares in [0, 1], ``met`` None where that tells nothing."""

    goal: str
    bound: float
    measured: float | None
    met: bool | None


def traffic(texts: Sequence[LabelledText], count: int, rate_per_s: float, seed: int) -> Iterator[Arrival]:
    """So many requests of a support desk: some questions are asked often, word for word or in other words."""
    arrivals = (replace(arrival, fields=FIELDS) for arrival in poisson(count, rate_per_s, seed))
    return with_texts(arrivals, drawn(texts, seed))


def verdicts(account: Account) -> list[Verdict]:
    """Whether the goals are met; what a load test's backend would have cost meets none."""
    saved = account.report.totals.saved_share if account.report else None
    wrong = account.wrong / account.sent if account.report else None
    return [
        Verdict(
            goal="saved of what the largest tier would have cost, at least",
            bound=LEAST_SAVED,
            measured=saved,
            met=None if saved is None or account.synthetic else saved >= LEAST_SAVED,
        ),
        Verdict(
            goal="degradation, requests answered with another label's answer, less than",
            bound=MOST_WRONG,
            measured=wrong,
            met=None if wrong is None else wrong < MOST_WRONG,
        ),
    ]
