"""What `forebay plan` simulates: a ledger's folder, or a trace."""

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
from forebay_schemas.config import Config

from ..simulation.behaviour import Behaviour
from ..simulation.ledger import read_ledger
from ..simulation.notes import of_ledger, of_trace
from ..simulation.trace import read_traffic
from ..simulation.traffic import Recorded, Traffic
from .embedder import loaded_embedder
from .progress import ConsoleProgress

SHARE = click.FloatRange(0, 100, min_open=True, max_open=True)
"""Per cent of the requests of a source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Traffic, and what is known of it.

    Attributes:
        says: what it is, in a few words.
        recorded: what really became of it; None for a trace.
        notes: what is assumed.
        read_s: how long it took to read.
    """

    says: str
    traffic: Traffic
    behaviour: Behaviour
    recorded: Recorded | None
    notes: Sequence[str]
    read_s: float


def ledger_source(
    folder: Path, config: Config, other: Config, since: dt.datetime | None, until: dt.datetime | None
) -> Source:
    """The answers of a period of a ledger."""
    began = time.perf_counter()
    found = read_ledger(folder, config, since, until)
    notes = [*of_ledger(config, other, sorted({kind.category for kind in found.traffic.kinds}))]
    if found.errors:
        notes.append(f"{found.errors:,} replies without an answer are left out")
    return Source(
        says=f"the ledger in {folder}",
        traffic=found.traffic,
        behaviour=found.behaviour,
        recorded=found.recorded,
        notes=notes,
        read_s=time.perf_counter() - began,
    )


def trace_source(
    file: Path,
    config: Config,
    *,
    tenant: str,
    like: Path | None,
    service_ms: float,
    answer_tokens: int,
    progress: ConsoleProgress,
) -> Source:
    """The requests of a trace, whose generations go as those of a ledger, or as is said."""
    began = time.perf_counter()
    if like:
        progress.doing(f"reading {like}")
        behaviour = replace(read_ledger(like, config).behaviour, each_ms=None)
    else:
        behaviour = Behaviour(otherwise_ms=service_ms, answer_tokens=answer_tokens)
    traffic, untold = read_traffic(
        file,
        config,
        tenant,
        behaviour.answer_tokens,
        lambda: loaded_embedder(config, progress, "simulate a ledger"),
        progress.counting,
    )
    if not len(traffic):
        raise click.BadParameter("holds no request; give one a line", param_hint="SOURCE")
    notes = of_trace(service_ms, behaviour.answer_tokens, untold, str(like) if like else None)
    return Source(
        says=f"the trace {file.name}",
        traffic=traffic,
        behaviour=behaviour,
        recorded=None,
        notes=[*notes],
        read_s=time.perf_counter() - began,
    )
