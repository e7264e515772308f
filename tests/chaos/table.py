"""What a campaign is told by: one line for each fault."""

from collections import Counter
from statistics import median

from forebay_ops.cli.tables import figures_table
from rich.table import Table

from .campaign import Injection


def table(injections: list[Injection]) -> Table:
    """A line for each fault, in the order of the first injections, and one of sums."""
    shown = figures_table(
        "fault",
        "times",
        "in flight",
        "lost",
        "repeated",
        "wrong",
        "error replies",
        "recovered (median)",
        "slowest",
        "limit",
    )
    for fault in dict.fromkeys(one.fault for one in injections):
        own = [one for one in injections if one.fault is fault]
        shown.add_row(fault.name, *_counts(own), *_times(own), f"{fault.within_s:g} s")
    shown.add_section()
    shown.add_row("all", *_counts(injections), *_times(injections), "")
    return shown


def _counts(injections: list[Injection]) -> list[str]:
    in_flight = sum(len(one.in_flight) for one in injections)
    errors = Counter(code for one in injections for code in one.errors)
    return [
        str(len(injections)),
        str(in_flight),
        str(sum(len(one.lost) for one in injections)),
        str(sum(len(one.repeated) for one in injections)),
        str(sum(len(one.wrong) for one in injections)),
        ", ".join(f"{count} {code}" for code, count in errors.items()) or "0",
    ]


def _times(injections: list[Injection]) -> list[str]:
    known = [one.recovered_s for one in injections if one.recovered_s is not None]
    if not known or len(known) < len(injections):
        return [f"{median(known):.1f} s" if known else "-", "not seen"]
    return [f"{median(known):.1f} s", f"{max(known):.1f} s"]
