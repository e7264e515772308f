"""`forebay eval rewording`: how well it is recognised that somebody asks the same again."""

from pathlib import Path

import click
from rich.console import Console

from ..evaluation.judging import read_pairs
from ..evaluation.rewording import REWORDINGS, table
from ..local.effective import PROFILE
from .embedder import loaded_embedder
from .options import cli_config
from .progress import ConsoleProgress
from .report_tables import LEAST_WIDTH, show_table


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=REWORDINGS,
              show_default="pairs that come with the package", help="Labelled pairs, as JSON lines.")  # fmt: skip
def rewording(data: Path) -> None:
    """Tell how often a question is rightly taken for the one before it in other words, by how near the two are.

    Who rewords a question was not helped by the answer, so the answer counts as wrong. Each line has the question
    before, `a`, the next one of the same user, `b`, and `equal`: 1 where it asks for the same, else 0.

    \b
      {"a": "How do I reset my password?", "b": "How can I change a forgotten password?", "equal": 1}
      {"a": "How do I reset my password?", "b": "How do I change my user name?", "equal": 0}

    \b
      forebay eval rewording
      forebay eval rewording --data pairs.jsonl
    """
    config = cli_config(PROFILE)
    with ConsoleProgress(Console(stderr=True)) as progress:
        with data.open("rb") as lines:
            pairs = read_pairs(lines)
        embedder = loaded_embedder(config, progress)
        progress.doing(f"embedding {len(pairs):,} pairs")
        one, other = (embedder.embed(texts) for texts in zip(*((pair.one, pair.other) for pair in pairs), strict=True))
    console = Console(width=max(LEAST_WIDTH, Console().width))
    show_table(console, table(data.name, pairs, (one * other).sum(axis=1)))
