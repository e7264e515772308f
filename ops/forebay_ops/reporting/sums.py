"""What is added up of replies, the same for every group of them, and the figures that follow from the sums."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """The sums of some replies. Amounts are US dollars.

    Attributes:
        replies: all of them; a request that was answered twice by a restored job counts once.
        errors: replies without an answer.
        exact, semantic, joined: answers that were reused, by kind.
        generated: answers that a model wrote for their request.
        escalated: replies of another tier than the request was sent to first.
        reviews: answers that are doubtful, where no further tier could be asked.
        tokens: of prompts and answers; of a reused answer those of its generation.
        cost: what was paid.
        baseline_cost: what the largest tier would have cost.
        saved_exact, saved_semantic, saved_joined: the baseline of the answers reused, by kind.
        saved_routing: what the models that answered are cheaper than the largest tier, at plain prices.
        saved_prefix_cache: what cached prompt tokens cost less than fresh ones.
        saved_batch: what the batch lane cost less than the interactive one.
        saved_escalation: below zero: what generations cost, at plain prices, whose answers did not go out.
    """

    replies: int
    errors: int
    exact: int
    semantic: int
    joined: int
    generated: int
    escalated: int
    reviews: int
    tokens: int
    cost: float
    baseline_cost: float
    saved_exact: float
    saved_semantic: float
    saved_joined: float
    saved_routing: float
    saved_prefix_cache: float
    saved_batch: float
    saved_escalation: float

    @property
    def answers(self) -> int:
        """Replies that are no errors."""
        return self.replies - self.errors

    @property
    def reused(self) -> int:
        return self.exact + self.semantic + self.joined

    @property
    def saved(self) -> float:
        return self.baseline_cost - self.cost

    @property
    def saved_share(self) -> float | None:
        """Of the baseline, at most 1; None where there is none."""
        return _per(self.saved, self.baseline_cost)

    @property
    def cost_per_request(self) -> float | None:
        return _per(self.cost, self.replies)

    @property
    def cost_per_answer(self) -> float | None:
        """Dollars per successful request: those of failed ones are shared out among them."""
        return _per(self.cost, self.answers)

    @property
    def cost_per_1m_tokens(self) -> float | None:
        """Dollars per million tokens that went to a service, reused ones included."""
        return _per(self.cost * 1e6, self.tokens)

    @property
    def cost_per_1k(self) -> float | None:
        """Dollars per thousand requests."""
        return _per(self.cost * 1e3, self.replies)

    @property
    def baseline_per_1k(self) -> float | None:
        return _per(self.baseline_cost * 1e3, self.replies)

    def share(self, count: int) -> float:
        """Of the replies, in [0, 1]."""
        return count / self.replies if self.replies else 0.0


SUMMED = tuple(field.name for field in fields(Sums))

_ANSWERED = "error_code IS NULL AND cache_status"
_GENERATED = "cache_status IN ('miss', 'bypass')"

MEASURES = {
    "replies": "1",
    "errors": "(error_code IS NOT NULL)::INT",
    "exact": f"({_ANSWERED} = 'exact')::INT",
    "semantic": f"({_ANSWERED} = 'semantic')::INT",
    "joined": f"({_ANSWERED} = 'joined')::INT",
    "generated": f"({_ANSWERED} IN ('miss', 'bypass'))::INT",
    "escalated": f"({_GENERATED} AND tier IS DISTINCT FROM route_tier)::INT",
    "reviews": "review::INT",
    "tokens": "prompt_tokens + completion_tokens",
    "cost": "cost",
    "baseline_cost": "baseline_cost",
    "saved_exact": "if(cache_status = 'exact', baseline_cost - cost, 0)",
    "saved_semantic": "if(cache_status = 'semantic', baseline_cost - cost, 0)",
    "saved_joined": "if(cache_status = 'joined', baseline_cost - cost, 0)",
    # With the three below it is baseline_cost - cost, so that the layers add up to what was saved.
    "saved_routing": f"if({_GENERATED}, baseline_cost - cost - saved_by_batch - saved_by_prefix_cache"
    " + escalation_cost, 0)",
    "saved_prefix_cache": f"if({_GENERATED}, saved_by_prefix_cache, 0)",
    "saved_batch": f"if({_GENERATED}, saved_by_batch, 0)",
    "saved_escalation": f"if({_GENERATED}, -escalation_cost, 0)",
}
"""Of each sum, what one row of the ledger adds to it, in SQL."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One of the means by which money was saved, and how much, in US dollars."""

    name: str
    saved: float


def layers(sums: Sums) -> list[Layer]:
    """What each means saved; together ``sums.saved``. The order is that in which a request meets them."""
    return [
        Layer("exact hits", sums.saved_exact),
        Layer("semantic hits", sums.saved_semantic),
        Layer("joined in flight", sums.saved_joined),
        Layer("smaller models", sums.saved_routing),
        Layer("prefix cache", sums.saved_prefix_cache),
        Layer("batch price", sums.saved_batch),
        Layer("escalation", sums.saved_escalation),
    ]


def _per(amount: float, count: float) -> float | None:
    return amount / count if count else None
