"""The rates of labelled traffic as `forebay plan scenario` takes them."""

from ..planning.measured import Measured, MeasuredError
from .figures import Figures


def measured_rates(figures: Figures, source: str) -> Measured:
    """The rates of all requests.

    Raises:
        MeasuredError: nothing is labelled, so nobody knows how many were answered wrongly; or none was generated.
    """
    if figures.wrong_share is None:
        raise MeasuredError("wrong_share: nobody labelled these requests; give a trace whose lines have a `label`")
    tiers = [tier for tier, requests in figures.by_tier.items() if requests]
    if not tiers:
        raise MeasuredError("split: no request was generated; give traffic with some that no cache answers")
    return Measured(
        source=source,
        hit_rate=figures.hit_rate,
        wrong_share=figures.wrong_share,
        split={tier: figures.tier_share(tier) for tier in tiers},
        price_per_query={tier: figures.cost_by_tier[tier] / figures.by_tier[tier] for tier in tiers},
    )
