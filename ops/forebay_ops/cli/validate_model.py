"""`forebay validate-model`: may a quantised model take the place of its original?"""

import json
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..json_files import write_json
from ..models.comparison import Comparison, compare_models
from ..models.jobs import Subject
from ..models.prompts import read_prompts
from ..models.verdict import DEFAULT_TOLERANCE, TaskComparison, Verdict
from .options import cli_config
from .progress import ConsoleProgress
from .tables import figures_table

_COLOURS = {Verdict.RECOMMEND: "bold green", Verdict.REFUSE: "bold red", Verdict.TOO_FEW_PROMPTS: "bold yellow"}

_FINDINGS = {"within": "green", "beyond": "red", "unsure": "yellow"}


class _Tolerance(click.ParamType):
    name = "NAME=SHARE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        name, _, share = str(value).rpartition("=")
        try:
            tolerance = float(share)
        except ValueError:
            tolerance = 0.0
        if not name or not 0 < tolerance < 1:
            self.fail(f"{value!r} is no task and share above 0 and below 1; give one such as qa=0.02", param, ctx)
        return name, tolerance


class _Engine(click.ParamType):
    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        try:
            engine = json.loads(value)
        except ValueError as error:
            self.fail(f"is no JSON ({error}); give an object such as " + '{"max_model_len": 4096}', param, ctx)
        if not isinstance(engine, dict):
            self.fail("is no object; give one such as " + '{"max_model_len": 4096}', param, ctx)
        return engine


@click.command("validate-model")
@click.argument("original")
@click.argument("changed")
@click.option("--prompts", "prompts_file", type=click.File("rb"), required=True, help="What both answer; see above.")
@click.option("--text", "text_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Plain text in UTF-8 on which their perplexities are compared.")  # fmt: skip
@click.option("--tolerance", "tolerances", type=_Tolerance(), multiple=True,
              help=f"What may be lost of a task; else that of `default`, which is {DEFAULT_TOLERANCE}.")  # fmt: skip
@click.option("--max-tokens", default=256, show_default=True, type=click.IntRange(min=1),
              help="Most tokens of an answer, where a line does not say.")  # fmt: skip
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=3),
              help="Measurements of the speed, of which the median counts.")  # fmt: skip
@click.option("--engine", type=_Engine(), default="{}", help="vLLM's engine arguments for folders of weights.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False, writable=True),
              help="Write all figures and every answer here, as JSON.")  # fmt: skip
def validate_model(
    original: str,
    changed: str,
    prompts_file: BinaryIO,
    text_file: Path | None,
    tolerances: tuple[tuple[str, float], ...],
    max_tokens: int,
    rounds: int,
    engine: dict[str, Any],
    out: Path | None,
) -> None:
    """Compare the model CHANGED, for example a quantised one, with its ORIGINAL.

    Both are names under `models` in the configuration (of the backends vllm and openai), or folders of weights. One
    after the other they answer the same prompts greedily, in a process of their own. The command recommends the
    changed model, or refuses it with its reasons. The exit code is 0 only where it recommends.

    The prompts are one JSON object a line: `task` and `prompt`, or `messages` and any other field of a request.

    \b
      {"task": "sentiment", "prompt": "Positive or negative? I love it.", "answer": "positive", "max_tokens": 3}
      {"task": "extraction", "prompt": "Name and city as JSON: ...", "response_format": {"type": "json_object"}}
      {"task": "summary", "messages": [{"role": "user", "content": "Summarise: ..."}], "compare": "tokens"}

    What counts is, by task: the accuracy lost, where `answer` tells what is right; else the share of answers that
    differ, or with `"compare": "tokens"` the share of tokens, for free text. JSON that was asked for and does not
    come, or not by its schema, counts beside it. With --text, so does the rise in perplexity.

    A loss within its tolerance has to be shown: 72 prompts of a task are needed for 0.05 if none of them differs,
    183 for 0.02. With fewer the command says how many it takes.

    \b
      forebay validate-model llama-8b llama-8b-awq --prompts prompts.jsonl --text wiki.txt --out report.json
      forebay validate-model llama-8b llama-8b-awq --prompts prompts.jsonl --tolerance qa=0.02 --tolerance default=0.1
      forebay validate-model ./original ./quantised --prompts prompts.jsonl --engine '{"max_model_len": 4096}'
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a CI's timeout ends the engine as Ctrl-C does
    config = cli_config()
    text = _read(text_file) if text_file else None
    prompts = read_prompts(prompts_file, config, max_tokens)
    console = Console()
    with ConsoleProgress(console) as progress:
        found = compare_models(
            Subject(original, engine),
            Subject(changed, engine),
            prompts,
            text,
            config=config,
            tolerances=dict(tolerances),
            rounds=rounds,
            doing=progress.doing,
        )
    if out:
        write_json(out, found)
    _show(console, found)
    if found.verdict is not Verdict.RECOMMEND:
        sys.exit(1)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{file} is no UTF-8 ({error}); convert it", param_hint="--text") from None


def _show(console: Console, found: Comparison) -> None:
    console.print()
    console.print(_tasks(found.tasks))
    console.print()
    console.print(_whole(found))
    console.print()
    for note in found.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    verdict = found.verdict.replace("_", " ")
    console.print(Text(f"{verdict}: {found.changed} in place of {found.original}", style=_COLOURS[found.verdict]))
    for reason in found.reasons:
        console.print(Text(f"  {reason}"), soft_wrap=True)


def _tasks(tasks: list[TaskComparison]) -> Table:
    table = figures_table("task", "prompts", "equal", "tokens", "accuracy", "invalid JSON", "lost", "may be", "")
    for task in tasks:
        lost = max(task.checks, key=lambda check: check.of.mean)
        table.add_row(
            task.task,
            str(task.prompts),
            f"{task.agreement.mean:.1%}",
            f"{task.token_agreement:.1%}",
            _change(task.accuracy),
            _change(task.invalid_json),
            f"{lost.of.mean:.1%}",
            f"{lost.tolerance:.1%}",
            Text(lost.finding, style=_FINDINGS[lost.finding]),
        )
    return table


def _whole(found: Comparison) -> Table:
    table = figures_table("", "original", "changed")
    one, other = found.speed
    table.add_row("tokens per second", f"{one.tokens_per_s:.1f}", f"{other.tokens_per_s:.1f}")
    table.add_row("time to first token", f"{one.first_token_ms:.0f} ms", f"{other.first_token_ms:.0f} ms")
    table.add_row("time to load", f"{one.load_s:.0f} s", f"{other.load_s:.0f} s")
    if found.perplexity:
        values = (found.perplexity.original.value, found.perplexity.changed.value)
        table.add_row("perplexity", *(f"{value:.4g}" for value in values))
    return table


def _change(shares: tuple[float, float] | None) -> str:
    return "-" if shares is None else f"{shares[0]:.0%} -> {shares[1]:.0%}"
