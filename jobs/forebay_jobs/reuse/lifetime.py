"""How long an answer lives: what its category gives it, less where a request wants less."""

from forebay_schemas.categories import CategoryConfig


def shorter_s(ttl_s: int, own_s: int | None) -> int:
    """A time to live, or a request's own where that is shorter."""
    return ttl_s if own_s is None else min(ttl_s, own_s)


def kept_s(category: CategoryConfig, own_s: int | None) -> int:
    """How long an answer is kept: while either cache may give it."""
    return shorter_s(max(category.exact_ttl_s, category.semantic_ttl_s), own_s)


def is_fresh(created_ms: int, now_ms: int, ttl_s: float) -> bool:
    """Whether an answer is younger than its time to live."""
    return now_ms - created_ms < ttl_s * 1000


def lot_of(digest: str) -> float:
    """A share in [0, 1) that is always the same for a digest."""
    return int(digest[:8], 16) / 2**32


def lived(lot: float, jitter: float) -> float:
    """The share of its time that an answer lives, in (0, 1]: what was filled together does not expire together."""
    return 1 - jitter * lot
