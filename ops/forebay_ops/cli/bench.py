"""`forebay bench`: what this project costs and saves, measured beside a baseline."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from forebay_schemas.sections import SemanticConfig
from rich.console import Console

from ..bench import batches as batches_bench
from ..bench import costs as costs_bench
from ..bench import embedding as embedding_bench
from ..bench import exact as exact_bench
from ..bench import growth as growth_bench
from ..bench import index as index_bench
from ..bench import isolation as isolation_bench
from ..bench import join as join_bench
from ..bench import lanes as lanes_bench
from ..bench import ledger as ledger_bench
from ..bench import miss as miss_bench
from ..bench import mix as mix_bench
from ..bench import output as output_bench
from ..bench import plan as plan_bench
from ..bench import prefix as prefix_bench
from ..bench import pruning as pruning_bench
from ..bench import scale as scale_bench
from ..bench import semantic as semantic_bench
from ..bench import start as start_bench
from ..bench import teacher as teacher_bench
from ..bench import transactions as transactions_bench
from ..bench import worker as worker_bench
from ..bench.harness import Bench, Group, Say, Start, one_of
from ..bench.semantic import Pipeline
from .bench_running import Listing, options, rounds_option, run, run_all
from .options import cli_config
from .tables import figures_table

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_GROWTH_OF_ALL = 50_000
"""Larger indexes take longer to build than all else together."""


@click.group(cls=Listing)
def bench() -> None:
    """Measure this project beside a baseline, in one run.

    Each benchmark starts what it needs (a Kafka broker, workers) in a temporary folder on free ports, measures its
    sides in turn, warm, in several rounds, and stops everything; a stack that runs here is left alone, but shares the
    machine. It prints the median and the spread of each figure, its ratio to the baseline and whether the goal is met.
    """


def _model_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--model",
        type=click.Choice(worker_bench.MODELS),
        default=default,
        show_default=True,
        help="tiny: random weights, shows what is ours; smollm2: a real small model.",
    )


@bench.command()
@_model_option("tiny")
@click.option(
    "--engine-cores",
    type=click.IntRange(1, len(os.sched_getaffinity(0))),
    help="Cores that both engines compute on, the others being left to everything else as beside an accelerator; "
    "else all of them.",
)
@options
def worker(model: str, engine_cores: int | None, rounds: int, out: Path | None) -> None:
    """Tokens per second and latency of a worker behind Kafka, against vLLM by itself.

    \b
      forebay bench worker
      forebay bench worker --model smollm2 --rounds 5 --out worker.json
      forebay bench worker --model smollm2 --engine-cores 1
    """
    given = {"model": model} | ({"engine_cores": engine_cores} if engine_cores else {})
    run("worker", lambda say: worker_bench.bench(model, engine_cores, say), rounds, out, **given)


def _plain(name: str, start: Start, meaning: str) -> None:
    """Add a benchmark that has no options of its own."""

    @bench.command(name, help=meaning)
    @options
    def command(rounds: int, out: Path | None) -> None:
        run(name, start, rounds, out)


def _server_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hands on how a Qdrant server is reached, or None."""

    def reached(_: click.Context, __: click.Parameter, url: str | None) -> SemanticConfig | None:
        return cli_config().semantic.model_copy(update={"url": url}) if url else None

    return click.option(
        "--url",
        "server",
        callback=reached,
        help="A Qdrant server for the index, with semantic.api_key and semantic.tls as configured; else Qdrant Edge."
        " Its collections there are removed in the end.",
    )(command)


_calls_option = click.option(
    "--calls",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Calls of the embedding model at a time, in the pipeline.",
)
_dtype_option = click.option(
    "--dtype",
    default="float32",
    show_default=True,
    type=click.Choice(["float32", "bfloat16", "auto"]),
    help="What the embedding model computes in, on all sides; auto: what is faster here.",
)


for _name, _meaning in {
    "exact": "Exact hits a second at most, against a Flink job whose Python does nothing.",
    "exact-latency": "Latency of exact hits, against the same job at the same rate.",
}.items():
    _plain(_name, one_of(exact_bench.both, _name), _meaning)

_BY_MEANING: dict[str, Callable[[Pipeline, Say], Bench]] = {}


def _by_meaning(name: str, measured: Callable[[Pipeline, Say], Bench], meaning: str) -> None:
    """Add a benchmark that is asked in new words."""
    _BY_MEANING[name] = measured

    @bench.command(name, help=meaning)
    @_dtype_option
    @_calls_option
    @_server_option
    @options
    def command(dtype: str, calls: int, server: SemanticConfig | None, rounds: int, out: Path | None) -> None:
        start = one_of(lambda say: semantic_bench.by_meaning(dtype, calls, server, {name: measured}, say), name)
        run(name, start, rounds, out, dtype=dtype, calls=calls)


_by_meaning("isolation", isolation_bench.bench, "Latency of exact hits beside as many hits by meaning as can be.")
_by_meaning(
    "semantic",
    semantic_bench.throughput,
    "Hits by meaning a second at most, against embedder and index called directly.",
)
_by_meaning(
    "semantic-latency", semantic_bench.latency, "Latency of hits by meaning, against embedder and index one by one."
)
_plain(
    "start", start_bench.bench, "Seconds until the local stack answers, by part, and what it takes while nobody asks."
)
_plain("join", join_bench.bench, "Generations that 1,000 equal requests within a second cost.")
_plain(
    "transactions",
    transactions_bench.bench,
    "What grouping replies in transactions costs, and what one that is left open holds up.",
)
_plain("embedding", embedding_bench.bench, "What the embedding model computes in: its speed, and what it rounds away.")
_plain(
    "teacher",
    teacher_bench.bench,
    "How long a hit by meaning waits beside a judge that compares answers without a pause.",
)


@bench.command()
@_model_option("tiny")
@_dtype_option
@_server_option
@options
def miss(model: str, dtype: str, server: SemanticConfig | None, rounds: int, out: Path | None) -> None:
    """What a miss waits for its first token besides the model, against vLLM by itself."""
    run("miss", lambda say: miss_bench.bench(model, dtype, server, say), rounds, out, model=model, dtype=dtype)


@bench.command()
@_model_option("tiny")
@options
def lanes(model: str, rounds: int, out: Path | None) -> None:
    """What a full batch lane costs interactive requests, and an idle interactive lane the batch."""
    run("lanes", lambda say: lanes_bench.bench(model, say), rounds, out, model=model)


@bench.command()
@_model_option("tiny")
@options
def prefix(model: str, rounds: int, out: Path | None) -> None:
    """Prompt tokens read from the prefix cache, with tasks sent to the workers by prefix or at random."""
    run("prefix", lambda say: prefix_bench.bench(model, say), rounds, out, model=model)


@bench.command()
@_model_option("smollm2")
@options
def output(model: str, rounds: int, out: Path | None) -> None:
    """Tokens that limits, length directives, stops and JSON mode save."""
    run("output", lambda say: output_bench.bench(model, say), rounds, out, model=model)


@bench.command()
@click.option(
    "--model",
    type=click.Choice(pruning_bench.MODELS),
    default="smollm2",
    show_default=True,
    help="smollm2: a real small model answers; none: only tokens and what is kept, in less than a minute.",
)
@click.option("--cross-encoder", metavar="MODEL", help="Folder or Hub name of a cross-encoder to measure besides.")
@options
def pruning(model: str, cross_encoder: str | None, rounds: int, out: Path | None) -> None:
    """Tokens that leaving passages out saves, and what it costs in answers.

    \b
      forebay bench pruning
      forebay bench pruning --model none
    """
    given = {"model": model} | ({"cross_encoder": cross_encoder} if cross_encoder else {})
    run("pruning", lambda say: pruning_bench.bench(model, cross_encoder, say), rounds, out, **given)


@bench.command()
@click.option("--entries", default=100_000, show_default=True, type=click.IntRange(min=1_000), help="Most questions.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Labelled questions to index, as `forebay eval reuse` takes them; else vectors are made up.",
)
@_server_option
@options
def index(entries: int, data: Path | None, server: SemanticConfig | None, rounds: int, out: Path | None) -> None:
    """How many of the nearest questions the semantic index finds, and how fast, by how it is built.

    \b
      forebay bench index --entries 10000
      forebay bench index --data questions.jsonl.gz --url http://localhost:6333
    """
    given = {"entries": entries} | ({"data": data.name} if data else {})
    run("index", lambda say: index_bench.bench(entries, data, server, say), rounds, out, **given)


@bench.command()
@click.option(
    "--entries",
    default=growth_bench.SIZES[-1],
    show_default=True,
    type=click.IntRange(min=growth_bench.SIZES[1]),
    help="Most questions; to build the graphs of 200,000 takes many minutes.",
)
@options
def growth(entries: int, rounds: int, out: Path | None) -> None:
    """How lookups, recall, memory and building grow with the entries of the semantic index."""
    run("growth", lambda say: growth_bench.bench(entries, say), rounds, out, entries=entries)


@bench.command()
@_server_option
@options
def scale(server: SemanticConfig | None, rounds: int, out: Path | None) -> None:
    """Processor time of a request at parallelism 1, 2 and 4, on one TaskManager and on two.

    Without a Qdrant server misses are not looked up by meaning: the embedded index serves one process.
    """
    run("scale", lambda say: scale_bench.bench(server, scale_bench.SHAPES, say), rounds, out)


@bench.command()
@click.argument("trace", type=_FILE)
@click.option("--texts", type=_FILE, multiple=True, required=True, help="Labelled texts; may be given several times.")
@_server_option
@options
def mix(trace: Path, texts: tuple[Path, ...], server: SemanticConfig | None, rounds: int, out: Path | None) -> None:
    """All paths at once: what a public trace's arrivals cost and wait, by who answers.

    TRACE and texts are read as by `forebay replay`.

    \b
      forebay bench mix azure.csv.gz --texts questions.jsonl.gz
    """
    run("mix", lambda say: mix_bench.bench(trace, list(texts), server, say), rounds, out, trace=trace.name)


@bench.command()
@options
def costs(rounds: int, out: Path | None) -> None:
    """Processor time and bytes that a request costs each part, by how it is answered, with synthetic models.

    \b
      forebay bench costs --out costs.json
      forebay capacity --costs costs.json --rate 10000
    """
    run("costs", costs_bench.bench, rounds, out)


@bench.command("all")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="benchmarks",
    show_default=True,
    help="Folder for a page with plots, and the figures of each benchmark as JSON.",
)
@click.option("--trace", type=_FILE, help="With --texts: also the mix, of this trace.")
@click.option("--texts", type=_FILE, multiple=True, help="Labelled texts; may be given several times.")
@_dtype_option
@_server_option
@rounds_option
def all_(
    out: Path, trace: Path | None, texts: tuple[Path, ...], dtype: str, server: SemanticConfig | None, rounds: int
) -> None:
    """The benchmarks of the whole pipeline, one after the other, and a page with plots.

    One that fails does not keep the others from being measured; the page tells what ended it.
    """
    alone: dict[str, Start] = {
        "miss": lambda say: miss_bench.bench("tiny", dtype, server, say),
        "join": join_bench.bench,
        "scale": lambda say: scale_bench.bench(server, scale_bench.FEW_SHAPES, say),
        "growth": lambda say: growth_bench.bench(_GROWTH_OF_ALL, say),
    }
    if trace is not None and texts:
        alone["mix"] = lambda say: mix_bench.bench(trace, list(texts), server, say)
    groups: dict[str, Group] = {
        "exact, exact-latency": exact_bench.both,
        ", ".join(_BY_MEANING): lambda say: semantic_bench.by_meaning(dtype, 1, server, _BY_MEANING, say),
        **{name: _alone(name, start) for name, start in alone.items()},
    }
    run_all(groups, rounds, out)


def _alone(name: str, start: Start) -> Group:
    """A benchmark that shares nothing."""
    return lambda _: nullcontext({name: start})


@bench.command("report")
@click.option("--rows", default=1_000_000, show_default=True, type=click.IntRange(min=1000), help="Replies.")
@options
def report_(rows: int, rounds: int, out: Path | None) -> None:
    """How long `forebay report` takes on a ledger of many replies, against reading two of its columns."""
    run("report", lambda say: ledger_bench.bench(rows, say), rounds, out, rows=rows)


@bench.command()
@click.option("--rows", default=1_000_000, show_default=True, type=click.IntRange(min=1000), help="Replies.")
@options
def plan(rows: int, rounds: int, out: Path | None) -> None:
    """How long `forebay plan simulate` takes on a ledger of many replies, against reading two of its columns."""
    run("plan", lambda say: plan_bench.bench(rows, say), rounds, out, rows=rows)


@bench.command()
@click.option("--rows", default=100_000, show_default=True, type=click.IntRange(min=1000), help="Of the file.")
def batch(rows: int) -> None:
    """How long a large batch takes from its file to its results, and how much memory each step holds.

    One pass on a broker of its own, beside a stand-in for job and workers that answers at once: what is measured is the
    client's side.

    \b
      forebay bench batch --rows 1000000
    """
    table = figures_table("", "time", "rows a second", "peak memory")
    for step in batches_bench.run(rows, lambda what: click.echo(f"... {what}", err=True)):
        table.add_row(step.name, f"{step.took_s:.1f} s", f"{rows / step.took_s:,.0f}", f"{step.peak_mb:.0f} MB")
    Console().print(f"{rows:,} rows", table)
