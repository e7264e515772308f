"""What a play comes to: how it was answered, how fast, by which tiers, and for how much."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..figures import percentile, tier_of
from .player import Outcome
from .script import Expect

REUSED = (Expect.EXACT, Expect.SEMANTIC, Expect.JOINED)
GENERATED = (Expect.MISS, Expect.BYPASS)


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRow:
    """The requests that were answered in one way; latencies are the askers', None where nobody could be answered."""

    kind: Expect
    count: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRow:
    """What one tier generated; costs in US dollars, the baseline being the largest tier's."""

    tier: str
    count: int
    completion_tokens: int
    cost: float
    baseline_cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The whole play.

    Attributes:
        kinds: in the order of ``Expect``, those that occurred.
        tiers: in the order of the ladder, all of them.
        cost: US dollars spent.
        baseline_cost: US dollars if the largest tier had answered every request.
        saved_by_reuse: the part of the difference that was answered without generating.
        errors: error replies by code, without those beside a dead letter.
        dead_letters: by code.
        dead_letters_told: those whose asker got an error reply as well.
        surprises: what was answered otherwise than the script expects.
    """

    requests: int
    kinds: list[KindRow]
    tiers: list[TierRow]
    cost: float
    baseline_cost: float
    saved_by_reuse: float
    errors: Counter[str]
    dead_letters: Counter[str]
    dead_letters_told: int
    surprises: list[Outcome]

    @property
    def generated(self) -> int:
        """Requests that a model answered."""
        return sum(row.count for row in self.tiers)

    @property
    def saved(self) -> float:
        """US dollars."""
        return self.baseline_cost - self.cost

    @property
    def saved_by_tiers(self) -> float:
        """US dollars saved by smaller tiers and the batch lane's price."""
        return self.saved - self.saved_by_reuse


def summarise(outcomes: Sequence[Outcome], tiers: Sequence[str]) -> Summary:
    """Add up a play.

    Args:
        outcomes: what became of the lines.
        tiers: the ladder's names, smallest first.
    """
    replies = [(item.kind, item.reply) for item in outcomes if item.reply]
    return Summary(
        requests=len(outcomes),
        kinds=[row for kind in Expect if (row := _kind_row(kind, outcomes)).count],
        tiers=[_tier_row(tier, outcomes) for tier in tiers],
        cost=sum(reply.cost for _, reply in replies),
        baseline_cost=sum(reply.baseline_cost for _, reply in replies),
        saved_by_reuse=sum(reply.baseline_cost for kind, reply in replies if kind in REUSED),
        errors=Counter(reply.error.code for kind, reply in replies if kind is Expect.ERROR and reply.error),
        dead_letters=Counter(item.dead_letter.code for item in outcomes if item.dead_letter),
        dead_letters_told=sum(kind is Expect.DEAD_LETTER for kind, _ in replies),
        surprises=_surprises(outcomes),
    )


def _surprises(outcomes: Sequence[Outcome]) -> list[Outcome]:
    # Counted by moment: which of equal lines is generated and which join it depends on the partitions they fall on.
    came = Counter((item.line.at, item.kind) for item in outcomes)
    expected = Counter((item.line.at, item.line.expect) for item in outcomes)
    return [
        item
        for item in outcomes
        if item.kind is not item.line.expect and came[item.line.at, item.kind] > expected[item.line.at, item.kind]
    ]


def _kind_row(kind: Expect, outcomes: Sequence[Outcome]) -> KindRow:
    of_kind = [item for item in outcomes if item.kind is kind]
    latencies = [item.latency_ms for item in of_kind if item.latency_ms is not None]
    return KindRow(
        kind=kind,
        count=len(of_kind),
        p50_ms=percentile(latencies, 50),
        p95_ms=percentile(latencies, 95),
        p99_ms=percentile(latencies, 99),
    )


def _tier_row(tier: str, outcomes: Sequence[Outcome]) -> TierRow:
    replies = [item.reply for item in outcomes if item.kind in GENERATED and item.reply and tier_of(item.reply) == tier]
    return TierRow(
        tier=tier,
        count=len(replies),
        completion_tokens=sum(reply.usage.completion_tokens for reply in replies),
        cost=sum(reply.cost for reply in replies),
        baseline_cost=sum(reply.baseline_cost for reply in replies),
    )
