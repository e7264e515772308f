"""How generations go: how long they take, how long their answers are, and how often a larger tier is asked after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from forebay_schemas.records import Lane

from .traffic import Floats, Ints, Traffic

SERVICE_MS = 1_000.0
ANSWER_TOKENS = 100
"""Of a generation, where nobody says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What is assumed of generations.

    Attributes:
        service_ms: from the arrival of a request to its answer, by tier and lane.
        otherwise_ms: the same for those that are not among them.
        each_ms: of single rows, where they are recorded; else NaN. None: of none.
        answer_tokens: of an answer, where its traffic does not tell.
        further: by the tier that was asked first, how many more generations a request leads to, by their tier.
    """

    service_ms: Mapping[tuple[str, Lane], float] = field(default_factory=dict)
    otherwise_ms: float = SERVICE_MS
    each_ms: Floats | None = None
    answer_tokens: int = ANSWER_TOKENS
    further: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def times_ms(self, traffic: Traffic, tier: Ints, tiers: Sequence[str]) -> Ints:
        """How long the generation of each row takes if its tier (a place among ``tiers``) answers it."""
        lanes = [kind.lane for kind in traffic.kinds]
        table = np.array([[self.service_ms.get((name, lane), self.otherwise_ms) for name in tiers] for lane in lanes])
        times = table[traffic.kind, tier]
        if self.each_ms is not None:
            times = np.where(np.isnan(self.each_ms), times, self.each_ms)
        return np.maximum(1, np.rint(times)).astype(np.int64)
