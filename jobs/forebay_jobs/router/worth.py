"""From the chances that each tier answers well, their prices and the wanted quality to one complexity."""

from collections.abc import Mapping, Sequence

from forebay_schemas.config import Config


def interpolated(chances: Mapping[str, float], tiers: Sequence[str]) -> dict[str, float]:
    """The chance of every tier: one without labels of its own lies evenly between the next ones that have some.

    Args:
        chances: by tier; the first and the last of ``tiers`` are among them.
    """
    known = [place for place, tier in enumerate(tiers) if tier in chances]
    found: dict[str, float] = {}
    for place, tier in enumerate(tiers):
        below, above = max(one for one in known if one <= place), min(one for one in known if one >= place)
        share = (place - below) / (above - below) if above > below else 0.0
        found[tier] = (1 - share) * chances[tiers[below]] + share * chances[tiers[above]]
    return found


def price_shares(config: Config) -> list[float]:
    """Of each tier what a prompt token and a generated one cost there, as a share of the dearest tier's.

    Where nothing costs anything the steps of the ladder count alike.
    """
    prices = [config.price(tier) for tier in config.tiers]
    sums = [price.input_per_1k + price.output_per_1k for price in prices]
    most = max(sums)
    return [one / most for one in sums] if most else [place / max(1, len(sums) - 1) for place in range(len(sums))]


def complexity_of(chances: Sequence[float], prices: Sequence[float], quality: float) -> float:
    """How much of the ladder is worth climbing, in [0, 1].

    A step up gains some chance of a good answer and costs a share of the dearest price, which is worth
    ``1 - quality`` of chance. It pays to the degree gain / (gain + cost): one half where both are equal. The mean over
    the steps is the complexity, so that with thresholds apart like the tiers each request meets the tier above which
    no step pays.

    Args:
        chances: that the answer of each tier is good, from the smallest to the largest.
        prices: as ``price_shares`` tells.
        quality: wanted, in [0, 1).
    """
    steps = [
        _pays(max(0.0, above - below), (1 - quality) * max(0.0, dear - cheap))
        for below, above, cheap, dear in zip(chances, chances[1:], prices, prices[1:], strict=False)
    ]
    return sum(steps) / len(steps) if steps else 0.0


def _pays(gain: float, cost: float) -> float:
    return gain / (gain + cost) if gain else 0.0
