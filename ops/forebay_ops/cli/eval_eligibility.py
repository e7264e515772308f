"""`forebay eval eligibility`: how well what must not be reused is recognised."""

from pathlib import Path

import click
from rich.console import Console

from ..evaluation.eligibility import SENTENCES, read_sentences, recognised, table
from .embedder import evaluation_embedder
from .progress import ConsoleProgress
from .report_tables import LEAST_WIDTH, show_table


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=SENTENCES,
              show_default="sentences that come with the package", help="Labelled sentences, JSON lines.")  # fmt: skip
@click.option("--classifier/--no-classifier", default=True, show_default=True,
              help="Also train one on the embeddings, beside the rules; loads the embedding model.")  # fmt: skip
def eligibility(data: Path, classifier: bool) -> None:
    """Tell how many time-sensitive and user-specific questions are held back, and how many others.

    Each line has `text` and `kinds`: what its answer depends on, `time`, `user`, both or none. The sentences are split
    into halves by a hash of their text: the classifier learns from one, and all figures are of the other.

    \b
      {"text": "Is the hotline open today?", "kinds": ["time"]}
      {"text": "How do I reset my password?", "kinds": []}

    \b
      forebay eval eligibility
      forebay eval eligibility --data questions.jsonl --no-classifier
    """
    with ConsoleProgress(Console(stderr=True)) as progress:
        with data.open("rb") as lines:
            sentences = read_sentences(lines)
        embed = None
        if classifier:
            progress.doing("loading the embedding model")
            embed = evaluation_embedder().embed
            progress.doing("embedding, and training on the dev half")
        rows = recognised(sentences, embed)
    show_table(Console(width=max(LEAST_WIDTH, Console().width)), table(rows))
