"""How reports on a terminal lay out their figures."""

from rich.table import Table


def figures_table(first: str, *others: str) -> Table:
    """A table without lines: what a row is about may fold, its figures stand to the right and whole."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    return table
