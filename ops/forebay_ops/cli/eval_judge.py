"""`forebay eval judge`: how often each way of judging two answers errs."""

from collections.abc import Callable, Sequence
from pathlib import Path

import click
from forebay_schemas.config import Config
from rich.console import Console

from ..evaluation.judging import ANSWER_PAIRS, Evaluation, Known, read_pairs, sample, table
from ..local.effective import PROFILE
from .embedder import loaded_embedder
from .options import cli_config
from .progress import ConsoleProgress
from .report_tables import LEAST_WIDTH, show_table


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=ANSWER_PAIRS,
              show_default="pairs that come with the package", help="Labelled pairs, as JSON lines.")  # fmt: skip
@click.option("--at-most", default=4_000, show_default=True, type=click.IntRange(min=1),
              help="Pairs to judge, spread over the file.")  # fmt: skip
@click.option("--category", default="default", show_default=True, help="Whose settings are measured.")
@click.option("--error", default=0.05, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Share of either kind that the thresholds chosen on the dev half may misjudge there.")  # fmt: skip
@click.option("--model", help="Ask this model of the configuration about the test half, as the large tier is asked.")
def judge(data: Path, at_most: int, category: str, error: float, model: str | None) -> None:
    """Tell how often pairs of answers are judged wrongly, or not at all, in each way that a category may set.

    Each line has the answers `a` and `b`, `equal` (1 where either would do, else 0), and maybe their `question`. The
    pairs are split into halves by a hash of the question, or of `a` where there is none: thresholds are chosen on one,
    and all figures are of the other.

    \b
      {"question": "What is the fee?", "a": "3 EUR", "b": "The fee is 3 euros.", "equal": 1}
      {"question": "What is the fee?", "a": "3 EUR", "b": "The fee is 5 euros.", "equal": 0}

    What is left open should be so as often of pairs that agree as of others, or what is learned from the rest is
    skewed: compare the two shares decided.

    \b
      forebay eval judge
      forebay eval judge --data pairs.jsonl --error 0.02
      forebay eval judge --data pairs.jsonl --model llama-3.1-405b --at-most 400
    """
    config = cli_config(PROFILE)
    with ConsoleProgress(Console(stderr=True)) as progress:
        with data.open("rb") as lines:
            pairs = sample(read_pairs(lines), at_most)
        settings = config.category(category).judge
        verdicts = _verdicts(model, pairs, config, progress.doing) if model else []
        evaluation = Evaluation(pairs, loaded_embedder(config, progress), progress.counting)
    auto = settings.model_copy(update={"by": "auto"})
    ways = [by for by in ("text", "json", "embedding", "auto") if by != "json" or evaluation.has_json]
    rows = [evaluation.judged(settings.model_copy(update={"by": by}), by) for by in ways]
    rows.append(evaluation.cosine_alone(settings))
    chosen = evaluation.chosen(auto, error)
    rows.append(evaluation.judged(chosen, f"auto, {chosen.different_below:.2f} to {chosen.equal_from:.2f}"))
    if verdicts:
        rows += evaluation.with_model(auto, verdicts)
    test = [pair.equal for pair in pairs if pair.is_test]
    thresholds = f"thresholds {settings.different_below:.2f} to {settings.equal_from:.2f}, or chosen on the dev half"
    title = f"{data.name}: {sum(test):,} pairs of the test half agree, {len(test) - sum(test):,} differ; {thresholds}"
    show_table(Console(width=max(LEAST_WIDTH, Console().width)), table(title, rows))


def _verdicts(name: str, pairs: Sequence[Known], config: Config, doing: Callable[[str], None]) -> list[bool | None]:
    from ..evaluation.judging_model import verdicts  # what runs models takes a second to import

    return verdicts(name, [pair for pair in pairs if pair.is_test], config, doing)
