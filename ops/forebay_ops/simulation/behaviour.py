"""How generations go: how long they take, how long their answers are, and how often a larger tier is asked after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from forebay_schemas.records import Lane

from .traffic import Floats, Ints, Traffic

SERVICE_MS = 1_000.0
ANSWER_TOKENS = 100
"""Of a generation, where nobody says."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a tier does of the requests that are sent to one tier first.

    Attributes:
        prompts: how often it reads the prompt of such a request.
        answers: tokens that it writes, for each token of the answers that go out; those longer than its limit count
            as that. More than ``prompts`` where long answers are the ones that lead to further generations.
    """

    prompts: float
    answers: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What is assumed of generations.

    Attributes:
        service_ms: from the arrival of a request to its answer, by tier and lane.
        otherwise_ms: the same for those that are not among them.
        each_ms: of single rows, where they are recorded; else NaN. None: of none.
        answer_tokens: of an answer, where its traffic does not tell.
        shares: by the tier that was asked first, the share of each tier that generates; absent: it generates, once.
    """

    service_ms: Mapping[tuple[str, Lane], float] = field(default_factory=dict)
    otherwise_ms: float = SERVICE_MS
    each_ms: Floats | None = None
    answer_tokens: int = ANSWER_TOKENS
    shares: Mapping[str, Mapping[str, Share]] = field(default_factory=dict)

    def times_ms(self, traffic: Traffic, tier: Ints, tiers: Sequence[str]) -> Ints:
        """How long the generation of each row takes if its tier (a place among ``tiers``) answers it."""
        lanes = [kind.lane for kind in traffic.kinds]
        table = np.array([[self.service_ms.get((name, lane), self.otherwise_ms) for name in tiers] for lane in lanes])
        times = table[traffic.kind, tier]
        if self.each_ms is not None:
            times = np.where(np.isnan(self.each_ms), times, self.each_ms)
        return np.maximum(1, np.rint(times)).astype(np.int64)

    def shares_of(self, tiers: Sequence[str]) -> tuple[Floats, Floats]:
        """The shares of prompts and of answers by the tier that is asked first and the one that generates."""
        once = {first: {first: Share(1.0, 1.0)} for first in tiers} | dict(self.shares)
        table = [[once[first].get(tier, Share(0.0, 0.0)) for tier in tiers] for first in tiers]
        return (
            np.array([[share.prompts for share in row] for row in table]),
            np.array([[share.answers for share in row] for row in table]),
        )
