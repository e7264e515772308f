"""A trace that the job has answered, for the tests of what simulates it."""

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import pytest
from forebay_ops.cli import plan_sources, plan_validate
from forebay_ops.replay.run import Run
from forebay_ops.simulation.whatif import what_if
from forebay_ops.traces.arrivals import Arrival
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import Reply

from tests.jobs.doubles import LetterEmbedder

from .job_in_memory import JobInMemory, made_up_arrivals
from .made_up import fill

SETTINGS = """
[ledger]
folder = "{folder}"
[categories.support]
policy = "fixed"
similarity = 0.97
judge = {{ by = "text" }}
exact_ttl_s = 100
semantic_ttl_s = 200
[categories.forms]
reuse = "exact"
exact_ttl_s = 400
fresh_s = 90
[categories.chat]
policy = "fixed"
similarity = 0.99
judge = {{ by = "text" }}
exact_ttl_s = 300
semantic_ttl_s = 100
"""
RUN = "r1"
REQUESTS = 1_500


@dataclass(frozen=True, slots=True)
class Answered:
    """A trace, and the replies to it; its ledger is that of the configuration."""

    config: Config
    arrivals: list[Arrival]
    file: Path

    def replies(self, most_kept: int | None = None) -> dict[int, Reply]:
        """What the job answers, by the number of the request, from 1."""
        replies = JobInMemory(self.config, Run(RUN, warm=True), most_kept).play(self.arrivals)
        return {Run(RUN).number(reply.request_id) or 0: reply for reply in replies}

    def under(self, settings: Sequence[str], most_kept: int | None) -> Collection[Reply]:
        """What it answers under other settings."""
        config, _ = what_if(self.config, None, settings)
        return replace(self, config=config).replies(most_kept).values()


def _in(folder: Path) -> Answered:
    """What lies, or is to lie, in a folder, with the settings of its own that lead there."""
    settings = folder / "forebay.toml"
    settings.write_text(SETTINGS.format(folder=folder / "ledger"))
    return Answered(load_config(settings), list(made_up_arrivals(REQUESTS)), folder / "trace.jsonl")


@pytest.fixture(scope="session")
def _answered_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the trace and the ledger, which take seconds to make."""
    folder = tmp_path_factory.mktemp("answered")
    with mock.patch.dict(os.environ):
        made = _in(folder)
    made.file.write_bytes(b"".join(arrival.line() for arrival in made.arrivals))
    fill(made.config, made.replies().values())
    return folder


@pytest.fixture
def answered(_answered_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answered:
    """So many requests; the commands embed by letters."""
    shutil.copytree(_answered_once, tmp_path, dirs_exist_ok=True)
    found = _in(tmp_path)
    monkeypatch.setenv("FOREBAY_CONFIG", str(tmp_path / "forebay.toml"))
    monkeypatch.chdir(tmp_path)
    for command in (plan_sources, plan_validate):
        monkeypatch.setattr(command, "loaded_embedder", lambda *_: LetterEmbedder())
    return found
