"""Figures as people read them: times, amounts of money, percentiles, who answered."""

import math
from collections.abc import Sequence

from forebay_schemas.records import Reply


def duration(ms: float | None) -> str:
    """At most 7 characters: milliseconds below a second, else seconds."""
    if ms is None:
        return "-"
    return f"{ms:.0f} ms" if ms < 999.5 else f"{ms / 1000:.2f} s" if ms < 99_995 else f"{ms / 1000:.0f} s"


def roughly(seconds: float) -> str:
    """A time that is still to come, as people say it: seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def minutes(seconds: float) -> str:
    """A time that something took: ``26 min 7 s``."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s"


def dollars(amount: float) -> str:
    """US dollars to the millionth, which is what an answer of a small model costs."""
    return f"{'-' if amount < 0 else ''}${abs(amount):.6f}" if amount else "$0"


def money(amount: float | None) -> str:
    """US dollars to the cent; below a dollar to three digits that count."""
    if not amount:
        return "-" if amount is None else "$0"
    size = abs(amount)
    decimals = 2 if size >= 0.995 else min(12, 2 - math.floor(math.log10(size)))
    return f"{'-' if amount < 0 else ''}${size:,.{decimals}f}"


def tier_of(reply: Reply) -> str | None:
    """The tier that answered: after an escalation not the one of the route."""
    return reply.tier or (reply.route.tier if reply.route else None)


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile: the least value that at least ``percent`` % of the values do not exceed."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
