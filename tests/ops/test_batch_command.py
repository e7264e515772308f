"""`forebay batch`: what it prints, and the exit codes that schedulers go by."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from forebay_client.batch import batch as batch_module
from forebay_ops.cli.batch import batch
from forebay_schemas.batches import is_batch
from forebay_schemas.config import load_config
from forebay_schemas.prices import upper_bound
from forebay_schemas.records import Lane, Reply, ReplyError, Request

from tests.builders import make_reply, make_request
from tests.producers.batch_doubles import MemoryLog, a_line, echo, failing, read_lines, small_portions, write_lines

Forebay = Callable[..., Result]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryLog:
    monkeypatch.setenv("FOREBAY_HOME", str(tmp_path))  # no stack runs there
    return MemoryLog(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "rows.jsonl", [a_line(f"row-{n}", f"Question {n}?") for n in range(1, 11)])


@pytest.fixture
def forebay(log: MemoryLog, tmp_path: Path) -> Forebay:
    def run(*arguments: object, journal: bool = True) -> Result:
        told = [str(one) for one in arguments] + (["--journal", str(tmp_path / "journals")] if journal else [])
        return CliRunner().invoke(batch, told)

    return run


def batch_id(result: Result) -> str:
    """The id, which is the first line on standard output."""
    first = result.stdout.splitlines()[0]
    assert is_batch(first)
    return first


def test_the_id_comes_first_and_alone_on_standard_output(forebay: Forebay, file: Path) -> None:
    result = forebay("submit", file, "--tenant", "acme")
    assert result.exit_code == 0
    assert result.stdout == f"{batch_id(result)}\n"
    assert f"forebay batch watch {batch_id(result)}" in result.stderr


def test_an_enrichment_job_is_one_command(forebay: Forebay, tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("sku,text\na,fine\n")
    (tmp_path / "prompt.txt").write_text("Good or bad? {text}")
    template = ["--template", tmp_path / "prompt.txt", "--id", "sku", "--out-column", "mood"]
    result = forebay("submit", tmp_path / "reviews.csv", "--tenant", "acme", *template, "--wait")
    assert result.exit_code == 0
    assert (tmp_path / "reviews.output.csv").read_text() == "sku,text,mood\na,fine,Good or bad? fine\n"


@pytest.mark.parametrize(
    ("answer", "code"), [(echo, 0), (failing, 3), (lambda _: None, 6)], ids=["all answered", "errors", "not finished"]
)
def test_the_exit_code_says_how_results_stand(
    forebay: Forebay, log: MemoryLog, file: Path, answer: Callable[[Request], Reply | None], code: int
) -> None:
    log.answer = answer
    name = batch_id(forebay("submit", file, "--tenant", "acme"))
    result = forebay("results", name, "-o", file.with_name("out"), "--errors", file.with_name("err"))
    assert result.exit_code == code
    answered, failed = (len(read_lines(file.with_name(one))) for one in ("out", "err"))
    assert f"{answered:,} answers" in result.stdout
    assert f"{failed:,} errors" in result.stdout


def test_it_stops_at_the_ceiling_says_how_to_go_on_and_does(forebay: Forebay, log: MemoryLog, file: Path) -> None:
    one = upper_bound(make_request("Question 1?"), load_config(), Lane.BATCH)
    log.answer = lambda request: make_reply(request_id=request.request_id, cost=one)
    result = forebay("submit", file, "--tenant", "acme", "--price-ceiling", 2.5 * one)
    assert result.exit_code == 4
    name = batch_id(result)
    assert "2 of 10 rows" in " ".join(result.stderr.split())
    assert f"forebay batch resume {name} --price-ceiling USD" in result.stderr
    assert forebay("watch", name).exit_code == 4
    assert forebay("resume", name, "--price-ceiling", 20 * one, "--wait").exit_code == 0
    assert len(log.rows) == 10


def test_a_cancelled_batch_has_a_code_of_its_own(forebay: Forebay, log: MemoryLog, file: Path) -> None:
    log.answer = lambda _: None
    name = batch_id(forebay("submit", file, "--tenant", "acme"))
    assert "is taken back" in forebay("cancel", name).stdout
    error = ReplyError(code="cancelled", message="taken back", retryable=False)
    log.answer_all(lambda request: make_reply(request_id=request.request_id, error=error))
    assert forebay("results", name).exit_code == 5
    assert "taken back" in forebay("status", name).stdout


def test_a_status_can_be_read_by_programs(forebay: Forebay, log: MemoryLog, file: Path) -> None:
    log.answer = lambda request: (failing if request.request_id.endswith("3") else echo)(request)
    name = batch_id(forebay("submit", file, "--tenant", "acme"))
    told: dict[str, Any] = json.loads(forebay("status", name, "--json").stdout)
    assert (told["phase"], told["answered"], told["failed"], told["rows"]) == ("completed", 9, 1, 10)
    assert told["replies"] == {"miss": 9, "given_up": 1}
    assert name in forebay("list", journal=False).stdout.split(), "whole, so that it can be copied"
    (listed,) = forebay("list", "--json", journal=False).stdout.splitlines()
    assert json.loads(listed)["batch_id"] == name


def test_ctrl_c_while_it_is_sent_says_how_to_go_on(
    forebay: Forebay, log: MemoryLog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch)

    def pressed(request: Request) -> Reply | None:
        if request.request_id.endswith("-5"):
            raise KeyboardInterrupt
        return echo(request)

    log.answer = pressed
    result = forebay("submit", file, "--tenant", "acme")
    assert result.exit_code != 0
    assert "go on with the same command" in result.stderr
    assert f"forebay batch cancel {batch_id(result)}" in result.stderr


def test_ctrl_c_while_it_is_watched_leaves_it_alone(
    forebay: Forebay, log: MemoryLog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.answer = lambda _: None
    name = batch_id(forebay("submit", file, "--tenant", "acme"))

    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch_module.Batch, "wait", pressed)
    result = forebay("watch", name)
    assert f"the batch goes on; come back with `forebay batch watch {name}`" in result.stderr
    assert log.commands == []


def test_a_dry_run_tells_and_sends_nothing(forebay: Forebay, log: MemoryLog, file: Path) -> None:
    result = forebay("submit", file, "--tenant", "acme", "--dry-run")
    assert result.exit_code == 0
    assert "nothing was sent" in result.stdout
    assert "cost at most" in result.stdout
    assert log.commits == 0


def test_a_dry_run_with_a_sample_sends_it_once_and_projects_the_rest(
    forebay: Forebay, log: MemoryLog, file: Path
) -> None:
    result = forebay("submit", file, "--tenant", "acme", "--dry-run", "--sample", 4)
    assert log.rows == [1, 2, 3, 4]
    assert "$0.0100" in result.stdout  # ten rows at what four cost
    assert "the first 4 rows, which were sent" in result.stdout
    assert "time, at the rate of the sample" in result.stdout
    again = forebay("submit", file, "--tenant", "acme", "--dry-run", "--sample", 4)
    assert "time, at the rate" not in again.stdout, "it was sent some time ago"
    assert forebay("submit", file, "--tenant", "acme").exit_code == 0
    assert log.rows == list(range(1, 11))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sample", "5"], "belongs to --dry-run"),
        (["--metadata", "night"], "write it as KEY=VALUE"),
        (["-o", "answers.jsonl"], "--output belongs to --wait"),
        (["--out-column", "mood", "--wait"], "--out-column is for CSV and Parquet"),
    ],
)
def test_what_makes_no_sense_is_refused(forebay: Forebay, file: Path, arguments: list[str], said: str) -> None:
    result = forebay("submit", file, "--tenant", "acme", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
