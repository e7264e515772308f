"""`forebay warm` on the whole stack: what it had answered is given again, and the history tells what is asked most."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from forebay_ops.cli import forebay

from .conftest import RunningStack

QUESTIONS = [f"What is spillway number {number}?" for number in range(20)]


def test_what_was_warmed_is_given_from_the_cache(
    running: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_CONFIG", str(running.stack.home.config))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps({"question": question, "tenant": "warmed"}) + "\n" for question in QUESTIONS))

    first = _warm(file, "--timeout", "120")
    assert first.exit_code == 0, first.output
    # A model of random weights finds no end to some answers, and those are not kept.
    unkept = _figure(first, "of these cut off or doubtful: no cache keeps them")
    filled = _figure(first, "generated") - unkept
    assert _figure(first, "generated") + _cached(first) == len(QUESTIONS)
    assert filled > 0

    again = _warm(file, "--timeout", "120")
    assert again.exit_code == 0, again.output
    assert _figure(again, "cached already") >= filled
    with running.client(tenant="warmed") as client:
        kept = [
            reply for reply in (client.ask(question, timeout_s=60) for question in QUESTIONS * 2) if reply.hops == 0
        ]
    assert len(kept) >= 2 * filled

    history = _warm("--history", "--tenant", "warmed", "--top", "5", "--dry-run")
    assert (
        "40 requests in the history; the 5 that were asked most, each more than once, are 10 of them" in history.stderr
    )


def _warm(*arguments: object) -> Result:
    return CliRunner().invoke(forebay, ["warm", *map(str, arguments)])


def _figure(result: Result, what: str) -> int:
    found = [line.rsplit(maxsplit=1)[1] for line in result.stdout.splitlines() if line.strip().startswith(what)]
    return int(found[0]) if found else 0


def _cached(result: Result) -> int:
    return sum(_figure(result, what) for what in ("cached already", "a similar question is cached already", "joined"))
