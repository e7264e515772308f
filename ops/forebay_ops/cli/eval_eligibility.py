"""`forebay eval eligibility`: how well what must not be reused is recognised."""

import hashlib
from pathlib import Path

import click
from rich.console import Console

from ..evaluation.eligibility import SENTENCES, Evaluation, read_questions, read_sentences, table, traffic_table
from ..json_files import write_json
from ..local.effective import PROFILE
from ..models.answering import spread
from .embedder import loaded_embedder, names_of
from .options import cli_config
from .progress import ConsoleProgress
from .report_tables import LEAST_WIDTH, show_table


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=SENTENCES,
              show_default="sentences that come with the package", help="Labelled sentences, JSON lines.")  # fmt: skip
@click.option("--classifier/--no-classifier", default=True, show_default=True,
              help="Also train one on the embeddings, beside the rules; loads the embedding model.")  # fmt: skip
@click.option("--traffic", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Other questions, `text` a line; shows what share of them would be held back.")  # fmt: skip
@click.option("--at-most", default=1_000, show_default=True, type=click.IntRange(min=1),
              help="Questions of --traffic to take, spread over the file.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False, writable=True),
              help="Write the classifier of the kind `time` here, as JSON; the job's was made so.")  # fmt: skip
def eligibility(data: Path, classifier: bool, traffic: Path | None, at_most: int, out: Path | None) -> None:
    """Tell how many time-sensitive and user-specific questions are held back, and how many others.

    Each line has `text` and `kinds`: what its answer depends on, `time`, `user`, both or none. The sentences are split
    into halves by a hash of their text: the classifier learns from one, and all figures are of the other.

    \b
      {"text": "Is the hotline open today?", "kinds": ["time"]}
      {"text": "How do I reset my password?", "kinds": []}

    \b
      forebay eval eligibility
      forebay eval eligibility --traffic questions.jsonl.gz
      forebay eval eligibility --data sentences.jsonl --no-classifier
    """
    if out is not None and not classifier:
        raise click.UsageError("--out: there is nothing to write without a classifier; leave out --no-classifier")
    config = cli_config(PROFILE)
    with ConsoleProgress(Console(stderr=True)) as progress:
        with data.open("rb") as lines:
            sentences = read_sentences(lines)
        questions: list[str] = []
        if traffic is not None:
            with traffic.open("rb") as lines:
                questions = spread(read_questions(lines), at_most)
        embed = None
        if classifier:
            embed = loaded_embedder(config, progress, "use --no-classifier").embed
            progress.doing("embedding, and training on the dev half")
        evaluation = Evaluation(sentences, embed)
        tables = [table(evaluation.recognised())]
        if traffic is not None:
            progress.doing(f"embedding {len(questions):,} questions")
            tables.append(traffic_table(traffic.name, len(questions), evaluation.held_back(questions)))
    if out is not None:
        digest = hashlib.sha256(data.read_bytes()).hexdigest()
        source = f"forebay eval eligibility --data {data.name} --out {out.name}, sentences {digest}"
        made = evaluation.time_sensitive(names_of(config.embedding.model), source)
        write_json(out, made, indent=0)
    console = Console(width=max(LEAST_WIDTH, Console().width))
    for each in tables:
        show_table(console, each)
