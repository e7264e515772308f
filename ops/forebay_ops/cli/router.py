"""`forebay router`: learns which tier will do from labels, measures it, and shows why a request got its tier."""

import os
import shlex
from pathlib import Path

import click
import numpy as np
from forebay_jobs.router.router import Router
from forebay_jobs.router.weights import encoded, read_weights
from forebay_schemas.canonical import question_of
from forebay_schemas.config import Config, changed
from forebay_schemas.records import Request
from forebay_schemas.validation import validate
from rich.console import Console

from ..evaluation.eligibility import read_questions
from ..local.effective import PROFILE
from ..models.answering import spread
from ..request_lines import parse_object, request_of
from ..routing.alternatives import compare, comparison
from ..routing.evaluation import evaluate
from ..routing.explaining import explained
from ..routing.labels import read_labels
from ..routing.split import split
from ..routing.tables import table, timing
from ..routing.training import Prepared, prepared, train
from ..routing.vectors import vectors_of
from .embedder import loaded_embedder, names_of, vectors_by
from .options import cli_config
from .progress import ConsoleProgress
from .report_tables import LEAST_WIDTH, show_table
from .router_drift import drift
from .router_retrain import retrain_

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_OUT = click.Path(path_type=Path, dir_okay=False, writable=True)
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forebay" / "router"
_cache_option = click.option(
    "--cache", type=click.Path(path_type=Path, file_okay=False), default=_CACHE, show_default="~/.cache/forebay/router",
    help="Folder that keeps the vectors of labelled prompts: a minute the first time.",
)  # fmt: skip


@click.group()
def router() -> None:
    """Learn which tier answers well enough, from prompts whose answers were judged. Nothing has to run.

    Labels are JSON lines, plain or gzip: `prompt`, and `<tier>_correct` (true, false or null) of at least two tiers,
    from the smallest to the largest; `dataset` may say where a prompt comes from.

    \b
      {"prompt": "What is 17 * 23?", "small_correct": false, "large_correct": true}
    """


@router.command("train")
@click.argument("labels", type=_FILE)
@click.option("--out", type=_OUT, required=True, help="Where the weights go; router.weights names them to the job.")
@_cache_option
def train_(labels: Path, out: Path, cache: Path) -> None:
    """Learn weights from LABELS: the same file from the same labels.

    \b
      forebay router train labels.jsonl --out weights.msgpack
      FOREBAY_ROUTER__WEIGHTS=weights.msgpack forebay up
    """
    config = cli_config(PROFILE)
    with ConsoleProgress(Console(stderr=True)) as progress:
        data = _prepared(labels, config, cache, progress)
        source = shlex.join(["forebay", "router", "train", labels.name, "--out", out.name])
        weights = train(data, names_of(config.embedding.model), source, progress.doing)
    read_weights(encoded(weights))  # what cannot be read again is not written
    unfinished = out.with_name(f"{out.name}.unfinished")
    unfinished.write_bytes(encoded(weights))
    unfinished.rename(out)  # a job that starts meanwhile finds the old ones or these
    errors = ", ".join(f"{tier} {error:.3f}" for tier, error in zip(weights.tiers, weights.error, strict=True))
    click.echo(
        f"{out}: version {weights.version} from {weights.labels:,} labels {weights.data[:12]},"
        f" {out.stat().st_size / 1e6:.2f} MB; calibration error where slope and intercept were fitted: {errors}"
    )


@router.command("eval")
@click.argument("labels", type=_FILE)
@click.option("--page", "page_file", type=_OUT, help="Draw the curves here, as HTML.")
@click.option("--compare", "compared", is_flag=True, help="Also measure other ways to learn; takes minutes.")
@_cache_option
def eval_(labels: Path, page_file: Path | None, compared: bool, cache: Path) -> None:
    """Measure how well weights learned from LABELS route prompts that they did not learn from.

    Accuracy against the share of calls to the largest tier, as RouteLLM measures: five-fold within each `dataset`,
    learned on one and asked of the other, and by length alone. Folds are by a hash of the prompt. With --compare other
    ways to learn are measured too (ridge regression, kernel, nearest neighbours, trees, a neural network), five-fold
    on the half of the prompts on which the constants of the scorer were chosen.

    \b
      forebay router eval labels.jsonl.gz --page routing.html
      forebay router eval labels.jsonl.gz --compare
    """
    config = cli_config(PROFILE)
    with ConsoleProgress(Console(stderr=True)) as progress:
        data = _prepared(labels, config, cache, progress)
        found = evaluate(data, progress.doing)
        tried = compare(data, progress.doing) if compared else []
    console = Console(width=max(LEAST_WIDTH, Console().width))
    show_table(console, table(found))
    click.echo(timing(found))
    if tried:
        show_table(console, comparison(tried))
    if page_file is not None:
        from ..routing.page import page  # matplotlib takes a second

        page_file.write_text(page(found), "utf-8")


@router.command("split")
@click.argument("questions", type=_FILE)
@click.option("--at-most", default=1_000, show_default=True, type=click.IntRange(min=1),
              help="Questions to take, spread over the file.")  # fmt: skip
def split_(questions: Path, at_most: int) -> None:
    """Show how QUESTIONS would spread over the tiers, by rules alone and with the weights of the configuration.

    A line of JSON for each, with its `text`.

    \b
      forebay router split questions.jsonl.gz --at-most 200
    """
    config = cli_config(PROFILE)
    chosen = Router(config)
    with ConsoleProgress(Console(stderr=True)) as progress:
        with questions.open("rb") as lines:
            some = spread(read_questions(lines), at_most)
        embedder = loaded_embedder(config, progress)
        progress.doing(f"embedding {len(some):,} questions")
        found = split(questions.name, some, config, chosen, embedder)
    show_table(Console(width=max(LEAST_WIDTH, Console().width)), found)


@router.command()
@click.argument("text", required=False)
@click.option("--request", "file", type=_FILE, help="A request as `forebay send` takes it, instead of TEXT.")
@click.option("--weights", type=_FILE, help="Instead of router.weights.")
def explain(text: str | None, file: Path | None, weights: Path | None) -> None:
    """Show which tier a question would go to, and why.

    \b
      forebay router explain "How do I return a parcel?"
      forebay router explain --request request.json
    """
    if (text is None) == (file is None):
        raise click.UsageError("give a question, or a request with --request")
    config = cli_config(PROFILE)
    if weights is not None:
        config = changed(config, {"router": {"weights": str(weights)}})
    request = _request(text, file, config)
    chosen = Router(config)
    question, vector = question_of(request), None
    if question and chosen.scorer is not None:
        with ConsoleProgress(Console(stderr=True)) as progress:
            embedder = loaded_embedder(config, progress)
            if embedder.grasps([question])[0]:
                vector = np.asarray(embedder.embed([question])[0], np.float32)
    console = Console(width=max(LEAST_WIDTH, Console().width), highlight=False)
    for each in explained(request, config, chosen, vector):
        show_table(console, each)


def _prepared(labels: Path, config: Config, cache: Path, progress: ConsoleProgress) -> Prepared:
    with labels.open("rb") as lines:
        read = read_labels(lines)
    if read.repeated:
        progress.done(f"{read.repeated:,} lines repeat an earlier one, and count once")
    by = vectors_by(config)
    vectors = vectors_of(read.prompts, by, lambda: loaded_embedder(config, progress), cache, progress.doing)
    progress.doing("reading the prompts' features")
    return prepared(read, vectors)


def _request(text: str | None, file: Path | None, config: Config) -> Request:
    fields = parse_object(file.read_bytes()) if file is not None else {"question": text}
    request, _ = request_of(fields, "default")
    validate(request, config)
    return request


router.add_command(drift)
router.add_command(retrain_)
