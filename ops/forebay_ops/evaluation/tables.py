"""The table of a comparison, for the terminal and the page."""

from ..reporting.tables import Table
from .compare import BOUNDED, WINDOW_REQUESTS, Comparison, Row


def table(comparison: Comparison) -> Table:
    """A row for each policy and delta; shares of all requests.

    First 2,000 are the errors among so many requests; settled is the share of the orders in which errors were within
    delta's interval again soon after a change.
    """
    changed = comparison.conditions.change_at is not None
    first = f"first {WINDOW_REQUESTS:,}"
    columns = ("policy", "delta", "hits", "errors", "errors, 95 %", "of delta", first, "precision", "labels", "of best")
    return Table(
        name="policies",
        title=_title(comparison),
        columns=(*columns, *(("settled",) if changed else ()), "goal"),
        rows=[
            (*_cells(row), *((_share_of_orders(row.after_change),) if changed else ()), _goal(row, changed))
            for row in comparison.rows
        ],
    )


def _title(comparison: Comparison) -> str:
    shuffles = comparison.shuffles
    orders = "in file order" if not shuffles else "shuffled" if shuffles == 1 else f"mean of {shuffles} shuffles"
    conditions = comparison.conditions
    told = [
        f"labels {conditions.label_delay:,} requests late" if conditions.label_delay else "",
        f"{conditions.judge_noise:.1%} of labels wrong" if conditions.judge_noise else "",
        f"equality changes at {conditions.change_at:.0%}" if conditions.change_at is not None else "",
    ]
    size = f"{comparison.questions:,} questions of {comparison.classes:,} classes"
    return ", ".join([comparison.stream, size, orders, *(one for one in told if one)])


def _cells(row: Row) -> list[str]:
    interval = row.errors_interval
    return [
        row.policy,
        "" if row.delta is None else f"{row.delta:.2%}",
        _spread(row.hits, row.hits_sd),
        _spread(row.errors, row.errors_sd, digits=3),
        f"{interval.low:.2%} to {interval.high:.2%}",
        "" if row.delta is None else f"{row.errors / row.delta:.2f}",
        f"{row.errors_at_first:.3%}",
        "-" if row.precision is None else f"{row.precision:.1%}",
        f"{row.labels:,.0f}",
        "" if row.of_hindsight is None else f"{row.of_hindsight:.2f}",
    ]


def _spread(mean: float, sd: float, digits: int = 2) -> str:
    return f"{mean:.{digits}%}" + (f" ± {sd * 100:.{digits}f}" if sd else "")


def _share_of_orders(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _goal(row: Row, changed: bool) -> str:
    """Of ours: errors within delta, and hits; after a change there is no threshold to compare with."""
    if row.policy != BOUNDED:
        return ""
    missed = [] if row.holds else ["errors"]
    if not changed and not row.reuses_enough:
        missed.append("hits")
    if row.after_change is not None and row.after_change < 1:
        missed.append("after change")
    return "missed: " + ", ".join(missed) if missed else "met"
