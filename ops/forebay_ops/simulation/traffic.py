"""Traffic as the simulation takes it, whichever source it comes from: one request a row, in columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from forebay_jobs.reuse.eligibility import Reuse
from forebay_schemas.records import CachePolicy, CacheStatus, Lane

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

STATUSES = tuple(CacheStatus)
"""How a request may be answered; columns of statuses have the places here."""
GENERATED = [STATUSES.index(status) for status in (CacheStatus.MISS, CacheStatus.BYPASS)]
"""Of these, those with a generation."""
UNKNOWN = -1
"""In the place of a question that was answered, but nobody recorded which; of a label that nobody gave."""

TOKENS = ("prompt_tokens", "completion_tokens", "cached_prompt_tokens", "cache_write_prompt_tokens")
"""The columns of ``Traffic.tokens``, as ``records.Usage`` names them."""
PROMPT, COMPLETION = TOKENS.index("prompt_tokens"), TOKENS.index("completion_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a request says beside what it asks, as far as it decides about reuse and tier.

    Attributes:
        owner: whose answers it shares, as ``owner_of`` tells; of a ledger nobody knows.
        nature: what its text and tools allow, as ``nature_of`` tells.
        ttl_s: its own limit on how long its answer is given again.
        task_tier: where the router sends it for the task that it is.
    """

    category: str
    owner: str = ""
    tenant: str = ""
    lane: Lane = Lane.INTERACTIVE
    policy: CachePolicy = CachePolicy.USE
    nature: Reuse = Reuse.SEMANTIC
    temperature: float | None = None
    ttl_s: int | None = None
    min_tier: str | None = None
    max_tier: str | None = None
    task_tier: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """Requests between which the router does not tell.

    Attributes:
        kind: place among ``Traffic.kinds``.
        complexity: in [0, 1].
    """

    kind: int
    complexity: float
    recognised: bool


class Near(NamedTuple):
    """A question near one that is asked; ``UNKNOWN`` for one that was answered, but nobody recorded which."""

    question: int
    cosine: float


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Of each question those of an equal context that are near, the nearest first.

    Those of question q are at ``starts[q]`` up to ``starts[q + 1]``.

    Attributes:
        near: questions; ``UNKNOWN`` for one that was there, but was not recorded.
        cosines: how similar they are, float32.
    """

    starts: Ints
    near: Ints
    cosines: npt.NDArray[np.float32]

    @property
    def questions(self) -> int:
        """How many questions there are."""
        return len(self.starts) - 1


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Requests in the order in which they come.

    Attributes:
        at_ms: when each comes; whole milliseconds, from any beginning.
        question: which question each asks; equal requests have equal ones, numbered from 0.
        case: its place among ``cases``.
        chars: of its prompt; 0 where nobody recorded the prompt.
        tokens: of its answer, a column each of ``TOKENS``.
        told: whether that many tokens were counted, and not assumed.
        complete: whether its answer ends by itself and nobody doubts it; no other is kept.
        words: of each question its words, empty where it is not compared by meaning; None where nobody recorded any.
        lots: of each question what decides about how long its answer lives, in [0, 1); None where nobody knows.
        timely: of each question whether its meaning says that its answer depends on the time, where its words do not.
        label: what it means, numbered from 0; ``UNKNOWN`` where nobody said.
        right: by tier, whether its answer is right: 1, 0, or ``UNKNOWN``; empty where nobody said of any.
        warm: questions that were answered before the traffic begins, and the first row that was given the answer.
    """

    at_ms: Ints
    question: Ints
    case: Ints
    kinds: list[Kind]
    cases: list[Case]
    chars: Ints
    tokens: Ints
    told: npt.NDArray[np.bool_]
    complete: npt.NDArray[np.bool_]
    neighbours: Neighbours
    words: Sequence[str] | None
    lots: Sequence[float] | None
    timely: npt.NDArray[np.bool_]
    label: Ints
    right: Mapping[str, npt.NDArray[np.int8]]
    warm: Mapping[int, int]

    def __len__(self) -> int:
        return len(self.at_ms)

    @cached_property
    def kind(self) -> Ints:
        """Of each row the place among ``kinds``."""
        return np.array([case.kind for case in self.cases], dtype=np.int64)[self.case]

    @cached_property
    def near(self) -> dict[int, list[Near]]:
        """Of each question that has any, the questions near it, the nearest first."""
        found = self.neighbours
        every = list(map(Near, found.near.tolist(), found.cosines.tolist()))
        some = np.flatnonzero(np.diff(found.starts))
        starts, ends = found.starts[some].tolist(), found.starts[some + 1].tolist()
        return {question: every[start:end] for question, start, end in zip(some.tolist(), starts, ends, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What really became of the requests, a row each.

    Attributes:
        status: its place among ``STATUSES``.
        source: the row for which its answer was generated; itself where that is not in the ledger.
        tier: where the router sent it, as its place in the configuration; ``UNKNOWN`` where that is not there any more.
        cost, baseline_cost: US dollars.
    """

    status: npt.NDArray[np.int8]
    source: Ints
    tier: Ints
    cost: Floats
    baseline_cost: Floats
