"""A replay on the whole stack: what it reports is what job and worker have counted."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from forebay_ops.cli.replay import replay

from .conftest import RunningStack
from .traffic import QUESTIONS


def test_a_replay_s_figures_are_those_of_job_and_worker(
    running: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, figures = tmp_path / "trace.jsonl", tmp_path / "figures.json"
    asked = [*QUESTIONS, *QUESTIONS, *QUESTIONS.values()]
    trace.write_text(
        "".join(
            f"{json.dumps({'at_ms': 200 * number, 'question': question, 'label': number % len(QUESTIONS)})}\n"
            for number, question in enumerate(asked)
        )
    )
    monkeypatch.setenv("FOREBAY_CONFIG", str(running.stack.home.config))
    before = _counts(running)
    fields = json.dumps({"category": "support", "temperature": 0})
    result = CliRunner().invoke(replay, [str(trace), "--fields", fields, "--json", str(figures)])
    assert result.exit_code == 0, result.output

    found = json.loads(figures.read_text())["replay"]
    totals = found["report"]["totals"]
    assert (totals["replies"], totals["errors"], found["unsent"]) == (len(asked), 0, 0)
    after = _counts(running)
    grown = {name: after[name] - before[name] for name in after}
    assert {name: totals[name] for name in ("exact", "semantic", "joined")} == {
        name: grown[name] for name in ("exact", "semantic", "joined")
    }
    assert grown["generated"] == totals["generated"] + 1  # the one that finds out whether anybody answers
    assert totals["exact"] > 0
    assert [kind["unknown"] for kind in found["reuse"]] == [0, 0, 0]


def _counts(running: RunningStack) -> dict[str, float]:
    reused = {
        status: running.total("job", "forebay_replies_total", cache_status=status)
        for status in ("exact", "semantic", "joined")
    }
    return reused | {"generated": running.total("worker", "forebay_replies_total")}
