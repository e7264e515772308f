"""The sections by category: what may be reused there, who judges it, which context is shown, when an answer goes up."""

from typing import Literal

from pydantic import Field, model_validator

from .section import Section

MIN_SIMILARITY = 0.85
"""No setting may go below: under it a third of labelled question pairs ask for different answers."""


class EscalationConfig(Section):
    """When an answer goes one tier up instead of out."""

    min_confidence: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="Least geometric mean of the tokens' probabilities; 0: confidence does not count.",
    )
    on_refusal: bool = Field(default=True, description="When the model says that it cannot or will not answer.")
    on_cut_off: bool = Field(default=False, description="When the answer met the tier's limit before its end.")
    max_escalations: int = Field(
        default=2,
        ge=0,
        le=9,
        description="Most tiers that one request may go up so; neither a second try for JSON at the same tier counts,"
        " nor one that stands in for an unavailable tier. 0: none.",
    )


class PruningConfig(Section):
    """Which of a request's passages are shown to the model."""

    max_tokens: int = Field(default=1024, ge=16, description="Most tokens of passages, by the embedder's tokenizer.")
    min_similarity: float = Field(
        default=0.2,
        ge=-1,
        le=1,
        description="Passages below are left out: cosine to the question, or a cross-encoder's score in [0, 1].",
    )
    cross_encoder: str | None = Field(
        default=None,
        min_length=1,
        description="Folder or Hub name of a cross-encoder that scores the passages; absent: the embedder's cosine.",
    )

    @model_validator(mode="after")
    def _threshold_of_its_own(self) -> "PruningConfig":
        if self.cross_encoder is not None and "min_similarity" not in self.model_fields_set:
            raise ValueError(
                "min_similarity must be set beside cross_encoder: the default is for cosines, and the scores of"
                " cross-encoders are not; 0 lets the budget alone decide"
            )
        return self


class AdaptiveConfig(Section):
    """A similarity from which answers are reused, and that moves."""

    start: float = Field(default=0.98, ge=MIN_SIMILARITY, le=1.0, description="Cosine at which it begins.")
    least: float = Field(default=0.88, ge=MIN_SIMILARITY, le=1.0, description="Lowest cosine to which it may fall.")
    most: float = Field(default=0.995, ge=MIN_SIMILARITY, le=1.0, description="Highest cosine to which it may rise.")
    precision: float = Field(
        default=0.95, gt=0, lt=1, description="Share of right answers just at the similarity to which it moves."
    )

    @model_validator(mode="after")
    def _start_within(self) -> "AdaptiveConfig":
        if not self.least <= self.start <= self.most:
            raise ValueError(f"start {self.start} is not between least {self.least} and most {self.most}")
        return self


class JudgeConfig(Section):
    """How it is judged whether two answers agree, for reuse to learn from and for comparisons."""

    by: Literal["auto", "text", "json", "embedding", "model"] = Field(
        default="auto",
        description="text: equal words; json: equal values; embedding: words, details and cosine; auto: json where both"
        " are, else embedding; model: the large tier is asked what auto leaves open.",
    )
    equal_from: float = Field(
        default=0.9, ge=-1, le=1, description="Cosine of the answers from which they count as equal."
    )
    different_below: float = Field(
        default=0.5, ge=-1, le=1, description="Cosine below which they count as different; in between nothing is said."
    )

    model_share: float = Field(
        default=0.25,
        ge=0.01,
        le=1,
        description="With model: the share of what is left open that the large tier is asked; each stands for those"
        " that are not.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> "JudgeConfig":
        if self.different_below > self.equal_from:
            raise ValueError(
                f"different_below {self.different_below} is above equal_from {self.equal_from}: lower it, or raise"
                " equal_from"
            )
        return self


class CategoryConfig(Section):
    """How requests of one category are reused and routed."""

    reuse: Literal["semantic", "exact", "bypass"] = Field(
        default="semantic", description="semantic: by meaning and exactly; exact: only equal requests; bypass: never."
    )
    policy: Literal["bounded", "adaptive", "fixed"] = Field(
        default="bounded",
        description="What decides on reuse by meaning. bounded: delta; adaptive: a similarity that follows how good"
        " answers are; fixed: similarity.",
    )
    delta: float = Field(
        default=0.01, gt=0, lt=1, description="Share of all requests that reuse may answer wrongly, with bounded."
    )
    similarity: float = Field(
        default=0.95, ge=MIN_SIMILARITY, le=1.0, description="Least cosine of a reused answer's question, with fixed."
    )
    adaptive: AdaptiveConfig = AdaptiveConfig()
    exact_ttl_s: int = Field(default=86_400, ge=1, description="How long an equal request is answered from the cache.")
    semantic_ttl_s: int = Field(default=86_400, ge=1, description="How long a similar request is.")
    fresh_s: int | None = Field(
        default=None,
        ge=1,
        description="Objective: the first equal request after this time has the answer generated anew while the others"
        " still get the old one; absent: an answer serves until its time to live ends.",
    )
    max_temperature: float = Field(
        default=0.5, ge=0, le=2, description="A request that asks for more variety than this is not reused."
    )
    tier: str | None = Field(default=None, description="Send misses straight to this tier; absent: by complexity.")
    quality: float = Field(
        default=0.9,
        ge=0,
        lt=1,
        description="Wanted quality: the largest tier is worth its price where it raises the share of good answers over"
        " the smallest tier's by 1 - quality. For questions that the learned router knows.",
    )
    escalation: EscalationConfig = EscalationConfig()
    judge: JudgeConfig = JudgeConfig()
    audit_share: float | None = Field(
        default=None, ge=0, le=1, description="As audits.share, which holds where this is absent; 0: never."
    )
    pruning: PruningConfig | None = Field(default=None, description="Absent: passages are passed on as they come.")

    @model_validator(mode="after")
    def _refreshed_in_time(self) -> "CategoryConfig":
        if self.fresh_s is not None and self.fresh_s >= self.exact_ttl_s:
            raise ValueError(
                f"fresh_s {self.fresh_s} is not below exact_ttl_s {self.exact_ttl_s}: an answer would be gone before"
                " it could be generated anew"
            )
        return self


PRESETS: dict[str, CategoryConfig] = {
    "support": CategoryConfig(similarity=0.92),
    # One differing field changes an extraction's answer while its meaning stays near.
    "extraction": CategoryConfig(reuse="exact", tier="small"),
    "code": CategoryConfig(reuse="exact"),
    "chat": CategoryConfig(similarity=0.95, exact_ttl_s=3600, semantic_ttl_s=3600),
}
"""Settings for usual workloads, by the name that ``preset`` takes."""
