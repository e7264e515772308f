"""What a profile prints: threads by the cores they took, and functions by the share of the samples."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .profile import Functions, Profile

_LEAST_CORES = 0.01
_LEAST_SAMPLES = 100
_FUNCTIONS, _PACKAGES = 14, 8


def show_profile(profile: Profile, console: Console) -> None:
    """Print it."""
    total = sum(thread.cores for thread in profile.threads)
    console.print(f"\n{profile.side}, looked into for {profile.took_s:.1f} s: {total:.2f} cores", markup=False)
    table = Table(box=None, header_style="bold")
    for column in ("cores", "process", "thread"):
        table.add_column(column, justify="right" if column == "cores" else "left")
    shown = [thread for thread in profile.threads if thread.cores >= _LEAST_CORES]
    for thread in shown:
        table.add_row(f"{thread.cores:.2f}", escape(thread.process), escape(thread.name))
    table.add_row(f"{total - sum(thread.cores for thread in shown):.2f}", "", "all else")
    console.print(table)
    for found in profile.functions:
        if found.samples >= _LEAST_SAMPLES:
            _show_functions(found, console)


def _show_functions(found: Functions, console: Console) -> None:
    heading = f"Python in {found.process}, {found.samples:,} samples of threads that computed"
    console.print(f"\n{heading}", markup=False)
    table = Table(box=None, header_style="bold")
    for column in ("with all it called", "function", "by itself", "package"):
        table.add_column(column, justify="left" if column in ("function", "package") else "right")
    functions, packages = found.ours[:_FUNCTIONS], found.packages[:_PACKAGES]
    for row in range(max(len(functions), len(packages))):
        cells: list[str] = []
        for ranked in (functions, packages):
            name, share = ranked[row] if row < len(ranked) else ("", None)
            cells += ["" if share is None else f"{share:.0%}", escape(name)]
        table.add_row(*cells)
    console.print(table)
