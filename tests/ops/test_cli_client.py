"""`forebay ask`, `cancel`, `feedback`, `send` and `tail` from a shell, on a broker in memory."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from forebay_client import Reply, Request, StreamRestarted, core
from forebay_ops.cli import client as commands
from forebay_schemas.config import Config
from forebay_schemas.records import CacheStatus, Chunk, ReplyError

from tests.builders import make_feedback, make_reply
from tests.producers.doubles import MemoryKafka, silence


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> MemoryKafka:
    memory = MemoryKafka()
    monkeypatch.setattr(core, "Outbox", memory.outbox)
    monkeypatch.setattr(core, "Inbox", memory.inbox)
    return memory


@pytest.fixture
def forebay(kafka: MemoryKafka) -> Callable[..., Result]:
    runner = CliRunner()
    return lambda command, *arguments, stdin="": runner.invoke(command, arguments, input=stdin)


def refuse(request: Request) -> list[Reply]:
    error = ReplyError(code="engine_failed", message="no luck", retryable=True)
    return [make_reply(request_id=request.request_id, tenant=request.tenant, text="", error=error)]


def lines(*fields: object) -> str:
    return "".join(f"{item if isinstance(item, str) else json.dumps(item)}\n" for item in fields)


# --- ask --------------------------------------------------------------------------------------------------------


def test_ask_prints_the_answer_and_apart_from_it_where_it_came_from(
    forebay: Callable[..., Result], kafka: MemoryKafka
) -> None:
    kafka.answer = lambda request: [
        make_reply(
            request_id=request.request_id,
            tenant=request.tenant,
            text="Like this.",
            cache_status=CacheStatus.SEMANTIC,
            similarity=0.9712,
            baseline_cost=0.00012,
        )
    ]
    result = forebay(commands.ask, "How?", "--tenant", "acme", "--category", "support", "--max-tier", "medium")
    assert (result.exit_code, result.stdout) == (0, "Like this.\n")
    for part in ("semantic", "small", "llama-3.1-8b", "$0 against $0.000120", "similarity 0.971", "request "):
        assert part in result.stderr
    request = kafka.sent[0].request
    assert (request.tenant, request.category, request.max_tier) == ("acme", "support", "medium")


def test_ask_prints_the_whole_reply_as_json(forebay: Callable[..., Result]) -> None:
    assert json.loads(forebay(commands.ask, "How?", "--json").stdout)["text"] == "How?"


def test_ask_without_an_answer_fails_and_still_prints_the_reply_as_json(
    forebay: Callable[..., Result], kafka: MemoryKafka
) -> None:
    kafka.answer = refuse
    result = forebay(commands.ask, "How?", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "engine_failed"
    assert "no luck" in str(result.exception)


def test_ask_can_print_the_answer_while_it_is_written(
    forebay: Callable[..., Result], kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []

    def say(piece: str = "", **options: Any) -> None:
        """The next piece is written when the one before is printed."""
        printed.append(piece)
        request = kafka.sent[0].request
        if piece == "Like":
            kafka.reply(make_reply(request_id=request.request_id, tenant=request.tenant, text="Like this."))

    def begin(request: Request) -> list[Reply]:
        kafka.chunk(Chunk(request_id=request.request_id, tenant=request.tenant, attempt=1, index=0, text="Like"))
        return []

    kafka.answer = begin
    monkeypatch.setattr(commands.click, "echo", say)
    result = forebay(commands.ask, "How?", "--stream")
    assert result.exit_code == 0
    assert printed[:3] == ["Like", " this.", ""]
    assert kafka.sent[0].request.stream


def test_ask_says_when_a_streamed_answer_begins_anew(
    forebay: Callable[..., Result], kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands.Client, "stream", lambda *_, **__: _RestartedStream())
    result = forebay(commands.ask, "How?", "--stream")
    assert (result.exit_code, result.stdout) == (0, "I do not\nLike this.\n")
    assert "begins anew" in result.stderr


class _RestartedStream(Iterator[str]):
    """In place of a stream whose second attempt says something else."""

    reply = make_reply(text="Like this.")

    def __init__(self) -> None:
        self._steps: Iterator[str | Exception] = iter(["I do", " not", StreamRestarted(), "Like", " this."])

    def __next__(self) -> str:
        step = next(self._steps)
        if isinstance(step, Exception):
            raise step
        return step

    def __enter__(self) -> "_RestartedStream":
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    ("options", "waiting"),
    [((), "concurrent.futures.Future.result"), (("--stream",), "forebay_client.Stream.__next__")],
)
def test_ctrl_c_cancels_the_request_and_says_so(
    forebay: Callable[..., Result],
    kafka: MemoryKafka,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    waiting: str,
) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    kafka.answer = silence
    monkeypatch.setattr(waiting, interrupted)
    result = forebay(commands.ask, "How?", "--tenant", "acme", *options)
    assert result.exit_code != 0
    assert "the request is cancelled" in result.stderr
    assert kafka.cancelled == [("acme", kafka.sent[0].request.request_id)]


# --- cancel -----------------------------------------------------------------------------------------------------


def test_cancel_takes_a_request_back_and_confirms_it(forebay: Callable[..., Result], kafka: MemoryKafka) -> None:
    result = forebay(commands.cancel, "row-17", "--tenant", "acme")
    assert result.exit_code == 0
    assert "request row-17 of tenant acme is taken back" in result.stdout
    assert kafka.cancelled == [("acme", "row-17")]


def test_cancel_confirms_nothing_that_did_not_reach_the_brokers(
    forebay: Callable[..., Result], kafka: MemoryKafka
) -> None:
    kafka.delivery = "no leader"
    result = forebay(commands.cancel, "row-17")
    assert (result.exit_code, result.stdout) == (1, "")


# --- feedback ---------------------------------------------------------------------------------------------------


def test_feedback_is_published_and_confirmed(forebay: Callable[..., Result], kafka: MemoryKafka) -> None:
    about = ("--tenant", "acme", "--user", "ada", "--reason", "outdated", "--refined-by", "row-18")
    result = forebay(commands.feedback, "row-17", "down", *about)
    assert (result.exit_code, result.stdout) == (0, "thumbs down for request row-17 of tenant acme is published\n")
    [sent] = kafka.thumbs
    fields = {"request_id": "row-17", "user": "ada", "reason": "outdated", "refined_by": "row-18"}
    assert sent.feedback == make_feedback(given_ms=sent.feedback.given_ms, **fields)


def test_feedback_confirms_nothing_that_did_not_reach_the_brokers(
    forebay: Callable[..., Result], kafka: MemoryKafka
) -> None:
    kafka.delivery = "no leader"
    result = forebay(commands.feedback, "row-17", "up")
    assert (result.exit_code, result.stdout) == (1, "")


def test_feedback_takes_no_other_verdict(forebay: Callable[..., Result], kafka: MemoryKafka) -> None:
    result = forebay(commands.feedback, "row-17", "sideways")
    assert result.exit_code == 2
    assert "'up', 'down'" in result.stderr
    assert kafka.thumbs == []


# --- send -------------------------------------------------------------------------------------------------------


def test_send_publishes_good_lines_and_says_what_is_wrong_with_the_others(
    forebay: Callable[..., Result], kafka: MemoryKafka, tmp_path: Path
) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text(
        lines(
            {"question": "One?"},
            "",
            "no json",
            [1],
            {"question": "Two?", "max_tokens": -1},
            {"question": "Three?", "max_token": 5},
            {"question": "Four?", "on_reply": "x"},
            {"question": "Five?", "tenant": "globex", "lane": "batch", "request_id": "five"},
            {"system": "Be brief.", "messages": [{"role": "user", "content": "Six?"}]},
        )
    )
    result = forebay(commands.send, str(file), "--tenant", "acme")
    assert result.exit_code == 1
    assert [sent.request.messages[0].content for sent in kafka.sent] == ["One?", "Five?", "Six?"]
    assert [(sent.topic, sent.request.tenant) for sent in kafka.sent] == [
        ("llm.requests", "acme"),
        ("llm.requests.batch", "globex"),
        ("llm.requests", "acme"),
    ]
    errors = result.stderr.splitlines()
    for number, what in [(3, "JSON"), (4, "object"), (5, "max_tokens"), (6, "max_token:"), (7, "on_reply")]:
        assert any(line.startswith(f"line {number}: ") and what in line for line in errors)
    assert "3 requests sent, 5 failed" in errors
    assert kafka.inboxes == []


def test_send_reads_standard_input(forebay: Callable[..., Result], kafka: MemoryKafka) -> None:
    result = forebay(commands.send, "-", "--tenant", "acme", "--rate", "1000", stdin=lines({"question": "One?"}))
    assert result.exit_code == 0
    assert kafka.sent[0].request.messages[0].content == "One?"


def test_send_can_wait_and_shows_each_reply_and_the_sums(forebay: Callable[..., Result], kafka: MemoryKafka) -> None:
    statuses = iter([CacheStatus.MISS, CacheStatus.EXACT, CacheStatus.EXACT])
    kafka.answer = lambda request: [
        make_reply(
            request_id=request.request_id,
            tenant="acme",
            text=request.messages[0].content,
            cache_status=next(statuses),
            cost=0.0001,
            baseline_cost=0.001,
        )
    ]
    questions = [{"question": f"{number}?"} for number in range(3)]
    result = forebay(commands.send, "-", "--tenant", "acme", "--wait", stdin=lines(*questions))
    assert result.exit_code == 0
    assert {line.split()[-1] for line in result.stdout.splitlines()} == {"0?", "1?", "2?"}
    assert "3 requests sent, 0 failed" in result.stderr
    assert "generated by tier: 1 small" in result.stderr
    assert "cost: $0.000300 against $0.003000 with the largest tier, 90% saved" in result.stderr


def test_send_counts_error_replies_as_failures(forebay: Callable[..., Result], kafka: MemoryKafka) -> None:
    kafka.answer = refuse
    result = forebay(commands.send, "-", "--tenant", "acme", "--wait", "--json", stdin=lines({"question": "One?"}))
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "engine_failed"


def test_send_gives_up_when_nothing_comes_any_more(forebay: Callable[..., Result], kafka: MemoryKafka) -> None:
    kafka.answer = silence
    arguments = ("-", "--tenant", "acme", "--wait", "--timeout", "0.1")
    result = forebay(commands.send, *arguments, stdin=lines({"question": "One?"}, {"question": "Two?"}))
    assert result.exit_code == 1
    assert "2 requests have no reply" in result.stderr
    assert "2 requests sent, 2 failed" in result.stderr


# --- tail -------------------------------------------------------------------------------------------------------


class _Feed:
    """In place of the feed of all replies: three of them, then Ctrl-C."""

    def __init__(self, config: Config, codec: object, topic: str, group: str | None, from_beginning: bool) -> None:
        self._replies: Iterator[Reply] = iter(
            [
                make_reply(tenant="acme", text="for acme"),
                make_reply(tenant="globex", text="for globex"),
                make_reply(tenant="acme", error=ReplyError(code="engine_failed", message="no luck", retryable=True)),
            ]
        )

    def poll(self, timeout_s: float) -> Reply:
        try:
            return next(self._replies)
        except StopIteration:
            raise KeyboardInterrupt from None

    def close(self) -> None:
        pass


def test_tail_prints_a_line_for_each_reply(forebay: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "ReplyFeed", _Feed)
    everyone = forebay(commands.tail).stdout.splitlines()
    assert len(everyone) == 3
    assert "for globex" in everyone[1]
    assert "engine_failed: no luck" in everyone[2]
    of_one = forebay(commands.tail, "--tenant", "globex", "--json").stdout.splitlines()
    assert [json.loads(line)["text"] for line in of_one] == ["for globex"]
