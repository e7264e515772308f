"""`forebay eval`: how well reuse keeps its promise, on questions whose right answers are known."""

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from forebay_jobs.reuse.estimator import Prior, read_prior, shipped_prior
from rich.console import Console

from ..evaluation.admission import Admission, admission
from ..evaluation.admission import table as admission_table
from ..evaluation.compare import Comparison, compare
from ..evaluation.playing import Conditions
from ..evaluation.prior import fit_prior
from ..evaluation.streams import Half, Preparer, Stream
from ..evaluation.tables import table
from ..json_files import write_json
from ..local.effective import PROFILE
from .embedder import loaded_embedder, names_of, vectors_by
from .eval_eligibility import eligibility
from .eval_judge import judge
from .eval_rewording import rewording
from .options import cli_config
from .progress import ConsoleProgress
from .report_tables import LEAST_WIDTH, show_table

_DELTAS = (0.003, 0.01, 0.02)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_OUT = click.Path(path_type=Path, dir_okay=False, writable=True)
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forebay" / "eval"


@click.group("eval")
def eval_() -> None:
    """Measure decisions on data whose right answers are known. Nothing has to run, and nothing is sent anywhere."""


eval_.add_command(eligibility)
eval_.add_command(judge)
eval_.add_command(rewording)


def _cache_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--cache", type=click.Path(path_type=Path, file_okay=False), default=_CACHE,
        show_default="~/.cache/forebay/eval",
        help="Folder that keeps which questions are near each other: minutes the first time, seconds afterwards.",
    )(command)  # fmt: skip


class _Prior(click.ParamType):
    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Prior:
        try:
            return read_prior(Path(value).read_bytes())
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            self.fail(f"{value} is no prior ({error}); write one with `forebay eval prior`", param, ctx)


@eval_.command()
@click.option("--data", type=_FILE, multiple=True, required=True, help="Labelled questions; once for each stream.")
@click.option("--delta", "deltas", type=click.FloatRange(0, 1, min_open=True, max_open=True), multiple=True,
              default=_DELTAS, show_default=True,
              help="Share of all requests that reuse may answer wrongly.")  # fmt: skip
@click.option("--shuffles", default=0, show_default=True, type=click.IntRange(min=0),
              help="Orders to average over; 0 is the file's own.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the first shuffle.")
@click.option("--classes", type=click.Choice([half.value for half in Half]), default=Half.ALL.value, show_default=True,
              help="Play the classes of one half only; the halves share none.")  # fmt: skip
@click.option("--label-delay", default=0, show_default=True, type=click.IntRange(min=0),
              help="Requests that pass until a judge has spoken.")  # fmt: skip
@click.option("--judge-noise", default=0.0, show_default=True, type=click.FloatRange(0, 1, max_open=True),
              help="Share of the judge's labels that are wrong.")  # fmt: skip
@click.option("--change-at", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="From this part of the stream on, half of what counted as equal does not: 0.5.")  # fmt: skip
@click.option("--prior", type=_Prior(), help="From `forebay eval prior`; else the shipped one.")
@click.option("--vcache/--no-vcache", default=True, show_default=True, help="Play vCache's algorithm too.")
@click.option("--out", type=_OUT, help="Write all figures here, as JSON.")
@click.option("--page", "page_file", type=_OUT, help="Draw them here, as HTML.")
@_cache_option
def reuse(
    data: Sequence[Path],
    deltas: Sequence[float],
    shuffles: int,
    seed: int,
    classes: str,
    label_delay: int,
    judge_noise: float,
    change_at: float | None,
    prior: Prior | None,
    vcache: bool,
    out: Path | None,
    page_file: Path | None,
    cache: Path,
) -> None:
    """Play labelled questions to every way of reusing answers, and count the hits and the errors.

    Each file is a stream of JSON lines, plain or gzip: `text`, and `label`, `class` or `intent`, equal where one answer
    is right for both. One pass, the cache empty at first; a label is seen only when the question was generated beside
    a cached neighbour, which is when a judge could tell it.

    Compared are fixed thresholds, the best of them with hindsight, vCache's algorithm, and reuse bounded by --delta.

    \b
      forebay eval reuse --data questions.jsonl.gz --delta 0.01
      forebay eval reuse --data questions.jsonl.gz --shuffles 5 --out reuse.json --page reuse.html
      forebay eval reuse --data questions.jsonl.gz --shuffles 5 --no-vcache --change-at 0.5
    """
    conditions = Conditions(label_delay, judge_noise, change_at)
    seeds = list(range(seed, seed + shuffles)) if shuffles else [None]
    console = Console(width=max(LEAST_WIDTH, Console().width))
    compared: list[Comparison] = []
    with ConsoleProgress(Console(stderr=True)) as progress:
        preparer = _preparer(cache, progress)
        for file in data:
            compared.append(
                compare(
                    preparer.stream(file, Half(classes)),
                    deltas=deltas,
                    seeds=seeds,
                    conditions=conditions,
                    prior=prior or shipped_prior(),
                    with_vcache=vcache,
                    say=progress.counting,
                )
            )
            show_table(console, table(compared[-1]))
            if out is not None:  # anew with each stream: a long run that is stopped has something to show
                write_json(out, compared)
    for one in compared:
        console.print(_decisions(one), highlight=False)
    if page_file is not None:
        from ..evaluation.page import page  # matplotlib takes a second

        page_file.write_text(page(compared), "utf-8")


def _decisions(comparison: Comparison) -> str:
    times = [row.decision_us for row in comparison.rows if row.decision_us]
    return f"{comparison.stream}: a decision took {sum(times) / len(times):.0f} µs"


@eval_.command("admission")
@click.option("--data", type=_FILE, multiple=True, required=True, help="Labelled questions; once for each stream.")
@click.option("--delta", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.01, show_default=True,
              help="Share of all requests that reuse may answer wrongly.")  # fmt: skip
@click.option("--shuffles", default=0, show_default=True, type=click.IntRange(min=0),
              help="Orders to average over; 0 is the file's own.")  # fmt: skip
@click.option("--out", type=_OUT, help="Write all figures here, as JSON.")
@_cache_option
def admission_(data: Sequence[Path], delta: float, shuffles: int, out: Path | None, cache: Path) -> None:
    """Measure what leaving questions out of the index saves in entries, and costs in hits.

    Labelled questions, as `forebay eval reuse` takes them, are played to bounded reuse under rules that keep some out
    at the door, and with everything let in and evicted by worth. A rule pays where it keeps more hits than eviction
    to the same size.

    \b
      forebay eval admission --data questions.jsonl.gz
    """
    seeds = list(range(shuffles)) if shuffles else [None]
    console = Console(width=max(LEAST_WIDTH, Console().width))
    measured: list[Admission] = []
    with ConsoleProgress(Console(stderr=True)) as progress:
        preparer = _preparer(cache, progress)
        for file in data:
            stream = preparer.stream(file)
            measured.append(admission(stream, delta, seeds, shipped_prior(), progress.counting))
            show_table(console, admission_table(measured[-1]))
            if out is not None:
                write_json(out, measured)


@eval_.command()
@click.option("--data", type=_FILE, multiple=True, help="Labelled questions, all of whose classes are used.")
@click.option("--dev-half", type=_FILE, multiple=True, help="The same, of which the classes held out are left alone.")
@click.option("--own", is_flag=True, help="They are of the namespace that gets it: no caution for what is unlike them.")
@click.option("--out", type=_OUT, required=True, help="Where the prior goes, as JSON.")
@_cache_option
def prior(data: Sequence[Path], dev_half: Sequence[Path], own: bool, out: Path, cache: Path) -> None:
    """Fit what a namespace believes about reuse before its first label, from labelled questions.

    \b
      forebay eval prior --data a.jsonl.gz --dev-half b.jsonl.gz --out prior.json
      forebay eval prior --data support.jsonl --own --out prior.json
    """
    if not data and not dev_half:
        raise click.UsageError("nothing to fit it to; give --data or --dev-half")
    with ConsoleProgress(Console(stderr=True)) as progress:
        preparer = _preparer(cache, progress)
        streams: list[Stream] = [preparer.stream(file) for file in data]
        streams += [preparer.stream(file, Half.DEV) for file in dev_half]
        models = names_of(cli_config(PROFILE).embedding.model)
        fitted = fit_prior(streams, models, _source(data, dev_half, own), progress.counting, own)
    write_json(out, fitted, indent=0)


def _source(data: Sequence[Path], dev_half: Sequence[Path], own: bool) -> str:
    """The command with the names of the files alone: where they lie matters to nobody."""
    files = [("--data", file) for file in data] + [("--dev-half", file) for file in dev_half]
    options = [word for option, file in files for word in (option, file.name)]
    return shlex.join(["forebay", "eval", "prior", *options, *(["--own"] if own else [])])


def _preparer(cache: Path, progress: ConsoleProgress) -> Preparer:
    config = cli_config(PROFILE)
    return Preparer(lambda: loaded_embedder(config, progress), vectors_by(config), cache, progress.counting)
