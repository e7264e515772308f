"""Values in the units of panels, as people read them."""

from rich.filesize import decimal

from ..figures import duration, money
from .boards import Shown

_TIMES_MS = {"s": 1000.0, "ms": 1.0}
_PACES = {"reqps": "/s", "cps": "/s", "cpm": "/min"}


def text_of(value: float, shown: Shown) -> str:
    """A value with its unit, or its name."""
    for mapping in shown.mappings:
        if name := mapping["options"].get(f"{value:g}"):
            return name["text"]
    if shown.unit == "percentunit":
        return f"{value:.{1 if shown.decimals is None else shown.decimals}%}"
    if shown.unit == "currencyUSD":
        return money(value)
    if shown.unit in _TIMES_MS:
        return duration(_TIMES_MS[shown.unit] * value)
    if shown.unit == "bytes":
        return decimal(round(value))
    if shown.decimals is not None:
        return f"{value:,.{shown.decimals}f}"
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}") + _PACES.get(shown.unit, "")
