"""How the tables of a report look on a terminal."""

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from ..reporting.tables import Table

LEAST_WIDTH = 120
"""A narrower terminal wraps the lines of wide tables; cut figures would be worse."""


def show_table(console: Console, table: Table) -> None:
    """Print a table, its title above it and an empty line below."""
    console.print(f"[bold]{table.title}[/]")
    shown = RichTable(
        box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0), show_header=any(table.columns)
    )
    for number, title in enumerate(table.columns):
        shown.add_column(title, justify="right" if number else "left", overflow="fold", no_wrap=number > 0)
    for row in table.rows:
        shown.add_row(*map(Text, row))  # a tenant's name is no markup
    console.print(shown)
    console.print()
