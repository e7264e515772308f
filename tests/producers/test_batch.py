"""A batch from its file to its results: each row once, whoever dies, and never beyond its price ceiling."""

import csv
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from forebay_client import Batch, BatchEnded, BatchTakenOver, ChangedFile, InvalidRequest, NothingToSend, UnknownBatch
from forebay_client.batch import BatchStatus, known_batches
from forebay_client.batch import batch as batch_module
from forebay_schemas.batches import Stage, batch_id, row_id
from forebay_schemas.config import Config, changed, load_config
from forebay_schemas.errors import ForebayError
from forebay_schemas.prices import upper_bound
from forebay_schemas.records import BatchState, Lane, Reply, ReplyError, Request
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.builders import NOW_MS, make_reply, make_request

from .batch_doubles import Killed, MemoryLog, a_line, echo, failing, read_lines, small_portions, write_lines

TEMPLATE = "Good or bad? {text}"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    return MemoryLog(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "rows.jsonl", [a_line(f"row-{n}", f"Question {n}?") for n in range(1, 11)])


class Submit:
    """Submits with a configuration and journals of the test's own."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.journals = folder / "journals"
        self._config = config

    def __call__(self, file: Path, tenant: str = "acme", **options: Any) -> Batch:
        return Batch.submit(file, tenant, config=self._config, journals=self.journals, **options)


@pytest.fixture
def submit(config: Config, tmp_path: Path) -> Submit:
    return Submit(config, tmp_path)


def nothing_yet(request: Request) -> Reply | None:
    """Answers nothing."""


# Each row once


def test_every_row_is_sent_on_the_batch_lane_until_the_end_of_its_window(
    log: MemoryLog, file: Path, submit: Submit
) -> None:
    batch = submit(file, category="reviews", completion_window_s=600)
    assert log.rows == list(range(1, 11))
    first = log.requests[0]
    assert (first.request_id, first.tenant, first.lane) == (row_id(batch.batch_id, 1), "acme", Lane.BATCH)
    assert (first.category, first.messages[0].content) == ("reviews", "Question 1?")
    assert {request.deadline_ms for request in log.requests} == {batch.state().created_ms + 600_000}


def test_the_same_command_again_sends_nothing_and_names_the_same_batch(
    log: MemoryLog, file: Path, submit: Submit
) -> None:
    assert submit(file).batch_id == submit(file).batch_id
    assert log.rows == list(range(1, 11))


@pytest.mark.parametrize("change", [{"run": "2026-11-22"}, {"tenant": "rival"}, {"max_tokens": 5}], ids=str)
def test_another_run_tenant_or_option_is_another_batch(
    log: MemoryLog, file: Path, submit: Submit, change: dict[str, Any]
) -> None:
    assert submit(file).batch_id != submit(file, **change).batch_id
    assert len(log.rows) == 20


@settings(max_examples=25)
@given(before=st.sets(st.integers(1, 8), max_size=4), after=st.sets(st.integers(1, 8), max_size=4))
@example(before=set(), after={3})  # all is published, and nobody has said so
def test_wherever_processes_die_each_row_is_sent_once(
    tmp_path_factory: pytest.TempPathFactory, before: set[int], after: set[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        log = MemoryLog(patch)
        small_portions(patch)
        log.die_before, log.die_after = before, after
        folder = tmp_path_factory.mktemp("batch")
        lines = [a_line(f"row-{n}", f"Question {n}?") if n % 4 else "no JSON" for n in range(1, 12)]
        file = write_lines(folder / "rows.jsonl", lines)
        batch = None
        while batch is None:
            try:
                batch = Batch.submit(file, "acme", config=load_config(), journals=folder)
            except Killed:
                continue
        assert log.rows == [n for n in range(1, 12) if n % 4]
        assert batch.status().phase == "completed"


def test_who_comes_second_takes_the_batch_over_and_the_first_sends_no_more(
    log: MemoryLog, file: Path, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch)
    told: list[int] = []

    def second_comes(state: BatchState) -> None:
        told.append(state.read)
        if len(told) == 2:
            submit(file)

    with pytest.raises(BatchTakenOver):
        submit(file, told=second_comes)
    assert log.rows == list(range(1, 11))


# What cannot be sent


def test_a_row_that_cannot_be_sent_ends_in_the_error_file_and_stops_no_other(
    log: MemoryLog, tmp_path: Path, submit: Submit
) -> None:
    lines = [
        a_line("good", "Fine?"),
        a_line("many", "Fine?", n=2),
        "no JSON",
        {**a_line("elsewhere", "Fine?"), "url": "/v1/embeddings"},
        a_line("unknown", "Fine?", model="gpt-4o-mini"),
        a_line("picture", "", messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
    ]
    batch = submit(write_lines(tmp_path / "rows.jsonl", lines))
    written = batch.results()
    assert (written.answered, written.failed, written.unanswered) == (1, 5, 0)
    errors = {line["custom_id"]: line["response"] for line in read_lines(written.errors)}
    assert {response["status_code"] for response in errors.values()} == {400}
    said = {name: response["body"]["error"]["message"] for name, response in errors.items()}
    assert said["many"] == "line 2: n: is 2, which is not supported; leave it out"
    assert said[None].startswith("line 3: the line is no JSON")
    assert "/v1/embeddings" in said["elsewhere"]
    assert "model: 'gpt-4o-mini' does not exist; use one of auto, small, medium, large" in said["unknown"]
    assert said["picture"].startswith("line 6: messages[0].content[0].type: is 'image_url'")


@pytest.mark.parametrize(
    "line", [b'{"custom_id": "\xff"}', b'{"body": ' + b"[" * 100_000], ids=["no UTF-8", "too deep"]
)
def test_a_line_that_no_decoder_takes_stops_no_other(
    log: MemoryLog, tmp_path: Path, submit: Submit, line: bytes
) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [a_line("good", "Fine?")])
    file.write_bytes(line + b"\n" + file.read_bytes())
    written = submit(file).results()
    assert (written.answered, written.failed) == (1, 1)
    assert "line 1: the line is no JSON" in written.errors.read_text()


def test_two_rows_of_one_name_are_refused_with_both_places(log: MemoryLog, tmp_path: Path, submit: Submit) -> None:
    lines = [a_line("same", "One?"), a_line("other", "Two?"), a_line("same", "Three?")]
    with pytest.raises(InvalidRequest, match="'same' is in line 1 and in line 3"):
        submit(write_lines(tmp_path / "rows.jsonl", lines))
    assert log.commits == 0


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("rows.jsonl", "", "has no rows"),
        ("rows.txt", "a,b", "must end in .jsonl"),
        ("rows.csv", "text,text\na,b\n", "name each column once"),
        ("rows.csv", 'text\n"never closed\n', "cannot be read"),
        ("rows.parquet", "no parquet", "as Parquet"),
    ],
)
def test_a_file_of_another_form_is_refused(
    log: MemoryLog, tmp_path: Path, submit: Submit, name: str, text: str, problem: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    template = None if name.endswith("l") else TEMPLATE
    with pytest.raises(ForebayError, match=problem):
        submit(file, template=template)
    assert log.commits == 0


def test_a_file_of_which_nothing_can_be_sent_is_refused_with_its_first_problem(
    log: MemoryLog, file: Path, submit: Submit
) -> None:
    with pytest.raises(NothingToSend, match="line 1: min_tier: 'huge' is no tier"):
        submit(file, min_tier="huge")
    assert log.commits == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "template: is absent"),
        ({"template": "Good? {review}"}, "template: names the column 'review', which the file has not"),
        ({"template": "no-such-file.txt"}, "holds no {column} and cannot be read as a file"),
        ({"template": "Good? {text"}, "braces that do not match"),
        ({"template": "Good? {text.__class__}"}, "names the column 'text.__class__', which the file has not"),
        ({"template": "Good? {text!r}"}, "which names no column"),
        ({"template": TEMPLATE, "id_column": "sku"}, "id_column: 'sku' is no column of the file"),
    ],
    ids=str,
)
def test_a_template_that_does_not_fit_is_refused(
    log: MemoryLog, tmp_path: Path, submit: Submit, options: dict[str, Any], problem: str
) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text("text\nfine\n")
    with pytest.raises(InvalidRequest, match=re.escape(problem)):
        submit(file, **options)
    assert log.commits == 0


def test_a_window_that_workers_do_not_keep_is_refused(
    log: MemoryLog, file: Path, config: Config, tmp_path: Path
) -> None:
    submit = Submit(changed(config, {"worker": {"completion_window_s": 7_200}}), tmp_path)
    with pytest.raises(
        InvalidRequest, match=r"completion_window_s: is 7201 s, above .* raise worker\.completion_window_s"
    ):
        submit(file, completion_window_s=7_201)
    assert log.commits == 0
    state = submit(file).state()
    assert state.deadline_ms - state.created_ms == 7_200_000


@pytest.mark.parametrize("other", [{"completion_window_s": 60.0}, {"reply_topic": "shop.replies"}], ids=str)
def test_what_the_first_call_said_of_window_and_replies_is_not_changed_by_another(
    log: MemoryLog, file: Path, config: Config, tmp_path: Path, other: dict[str, Any]
) -> None:
    submit = Submit(changed(config, {"kafka": {"reply_topics": ["shop.replies"]}}), tmp_path)
    submit(file, completion_window_s=600)
    submit(file, completion_window_s=600)
    with pytest.raises(InvalidRequest, match=f"{next(iter(other))}: .* was begun with .*; leave it out"):
        submit(file, **other)


# Results


def test_answers_and_errors_are_written_in_openais_shapes(log: MemoryLog, file: Path, submit: Submit) -> None:
    log.answer = lambda request: (failing if "3" in (request.messages[-1].content or "") else echo)(request)
    batch = submit(file)
    written = batch.results()
    answers, errors = read_lines(written.output), read_lines(written.errors)
    assert [line["custom_id"] for line in answers] == [f"row-{n}" for n in range(1, 11) if n != 3]
    assert answers[0].keys() == errors[0].keys() == {"id", "custom_id", "response", "error"}
    body = answers[0]["response"]["body"]
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Question 1?", "refusal": None}
    assert body["usage"]["forebay"]["cost"] == 0.001
    assert (errors[0]["custom_id"], errors[0]["response"]["status_code"]) == ("row-3", 500)
    assert batch.status().failed == 1


def test_the_first_reply_to_a_row_counts_and_those_of_others_do_not(log: MemoryLog, file: Path, submit: Submit) -> None:
    batch = submit(file)
    others = {"tenant": "rival", "request_id": row_id(batch.batch_id, 1)}, {"request_id": row_id(batch_id("f" * 64), 1)}
    for fields in others:
        log.reply(make_reply(**fields, text="not ours"))
    log.answer_all(failing)
    status = batch.status()
    assert (status.answered, status.settled, status.phase) == (10, 10, "completed")
    assert "not ours" not in batch.results().output.read_text()


def test_who_waits_does_so_no_longer_than_was_said_also_for_a_topic_that_never_ends(
    log: MemoryLog, file: Path, submit: Submit
) -> None:
    log.endless = True
    told: list[BatchStatus] = []
    assert submit(file).wait(0.01, told.append).phase in ("running", "completed")
    assert told, "how far it is"


def test_results_of_a_running_batch_hold_what_there_is(log: MemoryLog, file: Path, submit: Submit) -> None:
    log.answer = lambda request: echo(request) if request.request_id.endswith("0") else None
    batch = submit(file)
    written = batch.results()
    assert (written.answered, written.failed, written.unanswered) == (1, 0, 9)
    assert batch.status().phase == "running"
    log.answer_all()
    assert batch.wait().phase == "completed"
    assert batch.results().answered == 10


def test_results_count_no_reply_to_a_row_that_was_published_meanwhile(
    log: MemoryLog, file: Path, submit: Submit
) -> None:
    log.answer = lambda request: None if request.request_id.endswith("-3") else echo(request)
    batch = submit(file, sample=5)

    def another_process_goes_on() -> None:
        log.at_reading = lambda: None
        batch.resume()

    log.at_reading = another_process_goes_on
    written = batch.results()
    assert (written.answered, written.failed, written.unanswered) == (9, 0, 1)


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"no SQLite" * 1000)])
def test_a_journal_that_is_gone_or_broken_is_rebuilt_from_kafka(
    log: MemoryLog, file: Path, submit: Submit, damage: Any
) -> None:
    batch = submit(file)
    before = batch.results().output.read_text()
    for journal in submit.journals.iterdir():
        damage(journal)
    assert batch.status().answered == 10
    assert batch.results().output.read_text() == before


def test_a_journal_of_other_brokers_is_not_taken_for_this_one(log: MemoryLog, file: Path, submit: Submit) -> None:
    submit(file).status()
    log.__init__(pytest.MonkeyPatch(), nothing_yet)  # the topics were made anew
    assert submit(file).status().answered == 0


def test_a_table_comes_back_with_its_answers(log: MemoryLog, tmp_path: Path, submit: Submit) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text('sku,text\na,"fine, really"\nb,"broken"\nc,one,too many\n')
    log.answer = lambda request: (failing if "broken" in (request.messages[-1].content or "") else echo)(request)
    batch = submit(file, template="Is {{this}} good? {text}", system="Be brief.", id_column="sku")
    assert log.requests[0].messages[0].content == "Is {this} good? fine, really"
    assert log.requests[0].static_messages[0].content == "Be brief."
    written = batch.results(out_column="mood")
    with written.output.open(newline="") as text:
        assert list(csv.DictReader(text)) == [
            {"sku": "a", "text": "fine, really", "mood": "Is {this} good? fine, really"},
            {"sku": "b", "text": "broken", "mood": ""},
            {"sku": "", "text": "", "mood": ""},
        ]
    assert [line["custom_id"] for line in read_lines(written.errors)] == ["b", None]
    with pytest.raises(InvalidRequest, match="out_column: 'text' is a column of the file already"):
        batch.results(out_column="text")


def test_parquet_keeps_its_types_beside_the_answers(log: MemoryLog, tmp_path: Path, submit: Submit) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "reviews.parquet"
    table = pyarrow.table({"sku": pyarrow.array([7, 8], pyarrow.int16()), "text": ["good", None]})
    parquet.write_table(table, file)
    written = submit(file, template=TEMPLATE, id_column="sku").results(out_column="mood")
    found = parquet.read_table(written.output)
    assert found.schema.field("sku").type == pyarrow.int16()
    assert found.to_pylist()[0] == {"sku": 7, "text": "good", "mood": "Good or bad? good"}
    assert found.to_pylist()[1]["mood"] is None
    assert "has no value in this row" in written.errors.read_text()


def test_results_need_the_file_that_was_submitted(log: MemoryLog, file: Path, submit: Submit, tmp_path: Path) -> None:
    batch = submit(file)
    moved = file.rename(tmp_path / "moved.jsonl")
    with pytest.raises(ForebayError, match="there is no such file; say with --file"):
        batch.results()
    assert batch.results(file=moved).answered == 10
    moved.write_text(moved.read_text() + "\n")
    with pytest.raises(ChangedFile):
        batch.results(file=moved)


# A price ceiling, a sample, the end


def test_whatever_answers_cost_the_ceiling_is_not_passed(
    log: MemoryLog, file: Path, submit: Submit, config: Config
) -> None:
    def dear(request: Request) -> Reply:
        return make_reply(request_id=request.request_id, cost=upper_bound(request, config, Lane.BATCH))

    log.answer = dear
    one = upper_bound(make_request("Question 1?"), config, Lane.BATCH)
    batch = submit(file, price_ceiling=3.5 * one)
    status = batch.status()
    assert (log.rows, status.phase) == ([1, 2, 3], "ceiling")
    assert status.cost <= 3.5 * one
    batch.resume(price_ceiling=20 * one)
    assert log.rows == list(range(1, 11))
    assert batch.status().phase == "completed"


def test_who_goes_on_under_a_ceiling_waits_for_no_row_that_was_refused(
    log: MemoryLog, tmp_path: Path, submit: Submit, config: Config
) -> None:
    one = upper_bound(make_request("Fine?"), config, Lane.BATCH)
    log.answer = lambda request: make_reply(request_id=request.request_id, cost=one)
    file = write_lines(tmp_path / "rows.jsonl", ["no JSON", a_line("row-2", "Fine?"), a_line("row-3", "Fine?")])
    for _ in range(2):
        assert submit(file, price_ceiling=1.5 * one).status().phase == "ceiling"
    assert log.rows == [2]


def test_cheap_answers_make_room_under_the_ceiling_also_for_who_comes_after_a_crash(
    log: MemoryLog, file: Path, submit: Submit, config: Config
) -> None:
    one = upper_bound(make_request("Question 1?"), config, Lane.BATCH)
    log.answer = lambda request: make_reply(request_id=request.request_id, cost=0.01 * one)
    log.die_after = {1}
    with pytest.raises(Killed):
        submit(file, price_ceiling=2.5 * one)
    assert log.rows == [1, 2]
    assert submit(file, price_ceiling=2.5 * one).status().phase == "completed"
    assert log.rows == list(range(1, 11))


def test_what_is_out_is_reckoned_with_after_a_crash(
    log: MemoryLog, file: Path, submit: Submit, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = upper_bound(make_request("Question 1?"), config, Lane.BATCH)
    log.answer = nothing_yet
    log.die_after = {1}
    with pytest.raises(Killed):
        submit(file, price_ceiling=2.5 * one)
    waited: list[int] = []

    def told(state: BatchState) -> None:
        waited.append(state.read)
        if len(waited) == 3:
            assert log.rows == [1, 2]
            log.answer = echo
            log.answer_all()

    submit(file, price_ceiling=2.5 * one + 1, told=told)
    assert log.rows == list(range(1, 11))


def test_replies_that_another_process_took_in_first_make_room_too(
    log: MemoryLog, file: Path, submit: Submit, config: Config
) -> None:
    one = upper_bound(make_request("Question 1?"), config, Lane.BATCH)
    log.answer = nothing_yet
    waited: list[int] = []

    def told(state: BatchState) -> None:
        waited.append(state.read)
        assert len(waited) < 50, "it waits for what is in the journal already"
        log.answer_all(lambda request: make_reply(request_id=request.request_id, cost=0.01 * one))
        if log.rows:
            Batch(state.batch_id, config=config, journals=submit.journals).status()

    submit(file, price_ceiling=2.5 * one, told=told)
    assert log.rows == list(range(1, 11))


def test_a_sample_is_part_of_the_batch(log: MemoryLog, file: Path, submit: Submit) -> None:
    sampled = submit(file, sample=4)
    assert (log.rows, sampled.wait().phase) == ([1, 2, 3, 4], "sampled")
    assert submit(file).batch_id == sampled.batch_id
    assert log.rows == list(range(1, 11))


def test_a_sample_whose_sender_died_behind_its_last_row_is_one(
    log: MemoryLog, file: Path, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch)
    log.die_after = {1}
    with pytest.raises(Killed):
        submit(file, sample=3)
    assert submit(file, sample=3).wait(0).phase == "sampled"
    assert log.rows == [1, 2, 3]


def test_a_projection_sends_nothing_and_counts_what_there_is(log: MemoryLog, tmp_path: Path, config: Config) -> None:
    lines = [a_line("a", "Same?"), a_line("b", "Same?"), a_line("c", "Other?"), a_line("d", "Many?", n=3)]
    file = write_lines(tmp_path / "rows.jsonl", lines)
    found = Batch.project(file, "acme", config=config)
    assert (found.rows, found.refused, found.repeated) == (4, 1, 1)
    assert found.first_problem.startswith("line 4: n:")
    assert 0 < found.by_tier["small"] < found.by_tier["large"] < found.at_most
    bounded = Batch.project(file, "acme", config=config, min_tier="medium", max_tier="medium")
    assert bounded.by_tier == {"medium": found.by_tier["medium"]}
    assert log.commits == 0


def test_a_cancelled_batch_sends_no_more_and_its_rows_say_so(
    log: MemoryLog, file: Path, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch)
    log.answer = lambda request: echo(request) if request.request_id.endswith("-1") else None
    log.die_after = {2}
    with pytest.raises(Killed):
        submit(file)
    (state,) = known_batches()
    batch = Batch(state.batch_id, journals=submit.journals)
    batch.cancel()
    (command,) = log.commands
    assert (command.command, command.arguments) == ("cancel", {"tenant": "acme", "request_id": batch.batch_id})
    assert batch.status().phase == "cancelling"
    cancelled = ReplyError(code="cancelled", message="taken back", retryable=False)
    log.answer_all(lambda request: make_reply(request_id=request.request_id, error=cancelled))
    assert batch.wait().phase == "cancelled"
    written = batch.results()
    assert (written.answered, written.failed) == (1, 9)
    assert {line["error"]["code"] for line in read_lines(written.errors)} == {"batch_cancelled"}
    with pytest.raises(BatchEnded, match="was taken back"):
        submit(file)
    assert log.rows == [1, 2, 3, 4, 5, 6]


def test_rows_that_were_not_sent_in_the_window_say_so(
    log: MemoryLog, file: Path, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch)
    log.die_after = {1}
    with pytest.raises(Killed):
        submit(file)
    (state,) = known_batches()
    log.states[state.batch_id] = msgspec.structs.replace(state, deadline_ms=NOW_MS)
    with pytest.raises(BatchEnded, match="completion window ended"):
        submit(file)
    written = Batch(state.batch_id, journals=submit.journals).results()
    assert {line["error"]["code"] for line in read_lines(written.errors)} == {"batch_expired"}
    assert (written.answered, written.failed) == (3, 7)


@pytest.mark.parametrize(
    ("output", "errors", "problem"),
    [("same", "same", "output: .* is errors too"), ("rows.jsonl", "e", "output: .* is file too"),
     ("o", "linked", "errors: .* is file too")],
)  # fmt: skip
def test_results_take_the_place_of_no_other_file(
    log: MemoryLog, file: Path, submit: Submit, output: str, errors: str, problem: str
) -> None:
    batch, before = submit(file), file.read_text()
    (file.parent / "linked").symlink_to(file)
    with pytest.raises(InvalidRequest, match=problem):
        batch.results(file.parent / output, file.parent / errors)
    assert file.read_text() == before


def test_a_batch_that_is_over_is_not_taken_back(log: MemoryLog, file: Path, submit: Submit) -> None:
    batch = submit(file)
    assert batch.cancel().stage == Stage.SENT
    assert (log.commands, batch.status().phase) == ([], "completed")


def test_a_batch_is_taken_back_before_all_its_replies_are_read(
    log: MemoryLog, file: Path, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "_CANCEL_LOOKS_S", 0.01)
    log.answer, log.endless = nothing_yet, True
    assert submit(file).cancel().stage == Stage.CANCELLED


def test_rows_whose_replies_never_came_have_expired(log: MemoryLog, file: Path, submit: Submit) -> None:
    log.answer = nothing_yet
    batch = submit(file)
    log.states[batch.batch_id] = msgspec.structs.replace(batch.state(), deadline_ms=NOW_MS)
    assert batch.wait().phase == "expired"
    assert {line["error"]["code"] for line in read_lines(batch.results().errors)} == {"batch_expired"}


def test_what_kafka_does_not_know_is_told(log: MemoryLog) -> None:
    with pytest.raises(UnknownBatch, match=r"`forebay batch list`"):
        Batch(batch_id("ab" * 32)).status()


def test_one_call_does_a_nightly_job_again_and_again(log: MemoryLog, file: Path, submit: Submit) -> None:
    for _ in range(2):
        status, written = Batch.run(file, "acme", config=load_config(), journals=submit.journals)
        assert (status.phase, status.hits, written.answered) == ("completed", 0, 10)
    assert log.rows == list(range(1, 11))
