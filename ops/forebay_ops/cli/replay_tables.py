"""Shows what a replay came to."""

from collections.abc import Iterator, Sequence

from forebay_schemas.config import Config
from rich.console import Console
from rich.text import Text

from ..figures import duration, money
from ..replay.acceptance import Verdict
from ..replay.account import Account
from ..reporting.tables import Table, percent, tables
from .report_tables import LEAST_WIDTH, show_table

_OF_THE_REPORT = ("layers", "statuses", "tiers", "models")
_MET = {True: ("met", "green"), False: ("missed", "red"), None: ("unknown", "yellow")}  # as benchmarks say it


def show(console: Console, account: Account, config: Config, verdicts: Sequence[Verdict] = ()) -> None:
    """Print a replay, and how it stands to its goals."""
    console.width = max(console.width, LEAST_WIDTH)
    console.print()
    for table in _tables(account):
        if table.rows:
            show_table(console, table)
    for note in _notes(account, config):
        console.print(Text(f"note: {note}"))
    for verdict in verdicts:
        word, colour = _MET[verdict.met]
        said = f"goal: {verdict.goal} {percent(verdict.bound)}: {_share(verdict.measured)}, "
        console.print(Text(said).append(word, style=colour))


def _tables(account: Account) -> Iterator[Table]:
    yield Table("replay", "The replay", ("", ""), list(_played(account)))
    if account.report:
        yield from (table for table in tables(account.report) if table.name in _OF_THE_REPORT)
    yield _cost(account)
    yield _reuse(account)
    yield _unanswered(account)


def _played(account: Account) -> Iterator[tuple[str, str]]:
    rate = f", {account.asked_per_s:.1f}/s" if account.asked_per_s else ""
    yield "requests sent", f"{account.sent:,} of {account.requests:,} in {account.duration_s:.0f} s{rate}"
    late = (account.late_p50_ms, account.late_p99_ms, account.late_most_ms)
    yield "sent later than meant, P50, P99, most", ", ".join(map(duration, late))
    if asked := account.asked:
        labelled = asked.first + asked.verbatim + asked.reworded
        yield "asked for the first time", f"{asked.first:,} ({percent(asked.first / labelled)})"
        yield "asked again, word for word", f"{asked.verbatim:,} ({percent(asked.verbatim / labelled)})"
        yield "asked again, in other words", f"{asked.reworded:,} ({percent(asked.reworded / labelled)})"


def _cost(account: Account) -> Table:
    rows = list[tuple[str, ...]]()
    if account.report:
        totals = account.report.totals
        for what, count in (("all", 1), ("a request", totals.replies), ("1,000 tokens", totals.tokens / 1000)):
            if count:
                costs = totals.cost / count, totals.baseline_cost / count
                rows.append((what, *map(money, costs), percent(totals.saved_share)))
    if counted := account.at_trace_length:
        saved = 1 - counted.cost / counted.baseline_cost if counted.baseline_cost else None
        what = f"{counted.requests:,} requests, had they the trace's tokens"
        rows.append((what, money(counted.cost), money(counted.baseline_cost), percent(saved)))
    return Table("cost", "Cost", ("", "spent", "largest tier", "saved"), rows)


def _reuse(account: Account) -> Table:
    total = sum(kind.answers for kind in account.reuse)
    rows = [
        (kind.kind, f"{kind.answers:,}", f"{kind.wrong:,}", _per(kind.wrong, account.sent),
         _per(kind.wrong, kind.answers), f"{kind.unknown:,}")
        for kind in account.reuse
    ]  # fmt: skip
    if rows:
        unknown = sum(kind.unknown for kind in account.reuse)
        rows.append(("together", f"{total:,}", f"{account.wrong:,}", _per(account.wrong, account.sent),
                     _per(account.wrong, total), f"{unknown:,}"))  # fmt: skip
    columns = ("reused", "answers", "another label's", "of all requests", "of those reused", "label unknown")
    return Table("reuse", "Reuse, by the labels", columns, rows)


def _unanswered(account: Account) -> Table:
    rows = [(f"{each.kind}: {each.example}", f"{each.requests:,}") for each in account.failures]
    return Table("unanswered", "Without an answer", ("", "requests"), rows)


def _notes(account: Account, config: Config) -> Iterator[str]:
    if account.unsent:
        yield f"stopped before {account.unsent:,} requests of the trace were sent"
    if account.report:
        yield "latencies count from the moment at which a request was to be sent"
    if account.synthetic:
        yield f"{account.synthetic:,} answers were written by no model: their lengths, and so all costs, are made up"
    models = {tier.model for tier in config.tiers.values()}
    if len(models) == 1:
        yield f"all tiers share one model here ({models.pop()}); costs are the prices of those that they stand for"
    if account.reuse:
        yield "whether a smaller model answers worse than the largest is not judged, only whose answer was reused"


def _per(count: int, whole: int) -> str:
    return _share(count / whole if whole else None)


def _share(share: float | None) -> str:
    """To a hundredth of a per cent: wrong answers are rare."""
    return "-" if share is None else f"{share:.2%}"
