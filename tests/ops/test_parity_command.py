"""`forebay parity` from a shell, on a broker in memory: both paths are asked, and what routing loses is told."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import TopicPartition
from forebay_client import Reply, Request, core
from forebay_ops import request_log
from forebay_ops.cli import forebay
from forebay_ops.cli import parity as command
from forebay_schemas.records import CachePolicy, Lane, ReplyError

from tests.builders import make_reply, make_request
from tests.jobs.doubles import LetterEmbedder
from tests.producers.doubles import CODEC, MemoryKafka

RIGHT = "On 3 May."


def answer(request: Request) -> list[Reply]:
    """The largest tier is right; the router's choice is, but of what is hard."""
    question = request.messages[-1].content or ""
    large = request.min_tier == "large"
    text = RIGHT if large or "hard" not in question else "On 4 May."
    cost, tier = (0.5, "large") if large else (0.125, "small")
    return [make_reply(request_id=request.request_id, tenant=request.tenant, text=text, cost=cost, tier=tier)]


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryKafka:
    memory = MemoryKafka(answer=answer)
    monkeypatch.setattr(core, "Outbox", memory.outbox)
    monkeypatch.setattr(core, "Inbox", memory.inbox)
    monkeypatch.setattr(command, "loaded_embedder", lambda *_: LetterEmbedder())
    monkeypatch.chdir(tmp_path)
    return memory


def run(lines: list[dict[str, Any]], *arguments: object) -> Result:
    file = Path("sample.jsonl")
    file.write_text("".join(json.dumps({"tenant": "acme"} | line) + "\n" for line in lines))
    return CliRunner().invoke(forebay, ["parity", str(file), *map(str, arguments)])


def log(monkeypatch: pytest.MonkeyPatch, requests: list[Request]) -> list[int]:
    """Put these into a request topic of one partition; returns how many records each reading will have asked for."""
    read: list[int] = []

    def records(_: Any, places: list[TopicPartition], config: Any) -> list[tuple[int, bytes]]:
        (place,) = places
        read.append(len(requests) - place.offset)
        return list(enumerate(map(CODEC.encode, requests)))[place.offset :]

    monkeypatch.setattr(request_log, "reading", lambda _: nullcontext())
    monkeypatch.setattr(request_log, "partitions", lambda *_: [(TopicPartition("requests", 0, 0), len(requests))])
    monkeypatch.setattr(request_log, "records", records)
    return read


def lines(easy: int, hard: int, **fields: Any) -> list[dict[str, Any]]:
    questions = [f"When is it, {number}?" for number in range(easy)] + [f"hard {number}?" for number in range(hard)]
    return [{"question": question, **fields} for question in questions]


def figures(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code in (0, 1, 3), result.output
    return json.loads(Path("parity.json").read_text())


def test_both_paths_are_asked_greedily_on_the_batch_lane_past_the_caches(kafka: MemoryKafka) -> None:
    assert run([{"question": "When?", "lane": "interactive", "stream": True}]).exit_code == 0
    routed, large = sorted((sent.request for sent in kafka.sent), key=lambda request: request.min_tier or "")
    assert (routed.min_tier, large.min_tier) == (None, "large")
    for request in (routed, large):
        assert (request.lane, request.temperature, request.stream) == (Lane.BATCH, 0.0, False)
        assert request.cache.policy is CachePolicy.BYPASS


def test_with_labels_the_loss_is_that_of_right_answers_with_its_interval(kafka: MemoryKafka) -> None:
    result = run(lines(80, 20, answer=RIGHT, category="dates"), "--out", "parity.json")
    (found,) = figures(result)
    assert (found["category"], found["by"], found["cases"], found["right"]) == ("dates", "labels", 100, [0.8, 1.0])
    assert found["lost"]["mean"] == pytest.approx(0.2)
    assert 0.1 < found["lost"]["low"] < 0.2 < found["lost"]["high"] < 0.3
    assert (found["tiers"], found["cost"]) == ({"small": 100}, [12.5, 50.0])
    assert result.exit_code == 3
    assert "beyond" in result.output


def test_without_loss_and_with_too_few_it_says_so_and_refuses_nothing(kafka: MemoryKafka) -> None:
    assert "within" in run(lines(400, 0, answer=RIGHT)).output
    few = run(lines(10, 0, answer=RIGHT))
    assert "unsure" in few.output
    assert few.exit_code == 0


def test_without_labels_the_judge_compares_and_the_large_tier_says_what_it_leaves_open(kafka: MemoryKafka) -> None:
    def unclear(request: Request) -> list[Reply]:
        path = "aaab" if request.min_tier == "large" else "abbb"
        text = "same" if request.category == "judge" else path
        return [make_reply(request_id=request.request_id, tenant=request.tenant, text=text)]

    kafka.answer = unclear
    (found,) = figures(run(lines(30, 0), "--out", "parity.json"))
    assert (found["by"], found["cases"], found["lost"]["mean"], found["right"]) == ("judge", 30, 0.0, None)
    assert sum(sent.request.category == "judge" for sent in kafka.sent) == 30


def test_what_could_not_be_judged_counts_as_lost_in_the_bound(kafka: MemoryKafka) -> None:
    """That of 400 answers no judged one is worse does not say that none is, where the judge could not tell of 160."""

    def unclear(request: Request) -> list[Reply]:
        path = "aaab" if request.min_tier == "large" else "abbb"
        if request.category == "judge":
            question = json.loads(request.messages[-1].content or "")["question"]
            text = "unsure" if "hard" in question else "same"
        else:
            text = path
        return [make_reply(request_id=request.request_id, tenant=request.tenant, text=text)]

    kafka.answer = unclear
    result = run(lines(240, 160), "--out", "parity.json")
    (found,) = figures(result)
    assert (found["cases"], found["untold"], found["lost"]["mean"]) == (240, 160, 0.0)
    assert found["bounds"][0] == 0.0
    assert found["bounds"][1] == pytest.approx(0.45, abs=0.02)
    assert "unsure" in result.output
    kafka.answer = answer
    assert "unsure" not in run(lines(240, 0)).output


def test_repeated_questions_are_told_of(kafka: MemoryKafka) -> None:
    assert "2 repeat another's question" in run([*lines(3, 0), *lines(2, 0)], "--dry-run").output
    assert "repeat" not in run(lines(3, 0), "--dry-run").output


def test_what_fails_on_one_path_is_counted_and_lost_in_the_bound(kafka: MemoryKafka) -> None:
    def failing(request: Request) -> list[Reply]:
        error = ReplyError(code="given_up", message="why", retryable=False)
        bad = "hard" in (request.messages[-1].content or "") and request.min_tier == "large"
        return (
            [make_reply(request_id=request.request_id, tenant=request.tenant, text="", error=error)]
            if bad
            else answer(request)
        )

    kafka.answer = failing
    nowhere = lines(0, 2, category="legal") + lines(0, 1, category="legal", answer=RIGHT)
    result = run(lines(5, 3, answer=RIGHT) + nowhere, "--out", "parity.json")
    found, *others = figures(result)
    assert [(each["by"], each["cases"], each["unanswered"], each["lost"]) for each in others] == [
        ("judge", 0, 2, None),
        ("labels", 0, 1, None),
    ]
    assert (found["cases"], found["unanswered"], found["lost"]["mean"]) == (5, 3, 0.0)
    assert found["bounds"][0] < -3 / 8
    assert found["bounds"][1] > 3 / 8
    assert "5 of 11 were answered on both paths" in result.output


@pytest.mark.parametrize("phase", ["both paths", "verdicts"])
def test_when_nothing_comes_any_more_what_came_is_compared(kafka: MemoryKafka, phase: str) -> None:
    def half(request: Request) -> list[Reply]:
        judged = request.category == "judge"
        if judged or (phase == "both paths" and "hard" in (request.messages[-1].content or "")):
            return []
        text = "aaab" if phase == "verdicts" and request.min_tier == "large" else "abbb"
        return [make_reply(request_id=request.request_id, tenant=request.tenant, text=text)]

    kafka.answer = half
    result = run(lines(4, 2), "--timeout", 1, "--out", "parity.json")
    assert result.exit_code == 1
    assert "these figures are of what came: nothing came for 1 s" in result.output
    (found,) = figures(result)
    expected = (4, 0, 2) if phase == "both paths" else (0, 6, 0)
    assert (found["cases"], found["untold"], found["unanswered"]) == expected
    assert found["bounds"][1] > 1 / 3


def test_a_dry_run_says_what_it_may_cost_and_asks_nothing(kafka: MemoryKafka) -> None:
    result = run([*lines(3, 0), {"question": "No.", "max_tier": "small"}], "--dry-run")
    assert result.exit_code == 0
    assert "3 requests on two paths" in result.output
    assert "1 are left out: their max_tier forbids the largest tier" in result.output
    assert "at most about $" in result.output
    assert kafka.sent == []


def test_the_sample_is_the_same_each_time(kafka: MemoryKafka) -> None:
    run(lines(50, 0), "--n", 5)
    first = [sent.request.messages[-1].content for sent in kafka.sent]
    kafka.sent.clear()
    run(lines(50, 0), "--n", 5)
    assert [sent.request.messages[-1].content for sent in kafka.sent] == first
    assert len(set(first)) == 5


def test_without_a_file_the_newest_requests_are_the_sample(kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    read = log(monkeypatch, [make_request(f"When, {number}?") for number in range(4)])
    assert CliRunner().invoke(forebay, ["parity", "--n", "3"]).exit_code == 0
    assert len(kafka.sent) == 6
    assert read == [3]


def test_without_a_file_only_what_users_sent_is_the_sample(kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests of its own, of the judge and of warming lie before them."""
    users = [make_request(f"When, {number}?", request_id=f"user-{number}") for number in range(3)]
    log(monkeypatch, users)
    CliRunner().invoke(forebay, ["parity", "--n", "3"])
    own = [sent.request for sent in kafka.sent]
    others = [make_request(category="judge"), make_request(request_id="warm-1", category="chat")]
    kafka.sent.clear()
    read = log(monkeypatch, users + others + own)
    assert CliRunner().invoke(forebay, ["parity", "--n", "3"]).exit_code == 0
    assert {sent.request.messages[0].content for sent in kafka.sent} == {f"When, {number}?" for number in range(3)}
    assert read == [3, 11]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"question": "When?", "answer": 3}, "line 1: answer: is 3, no text; give the right answer, or leave it out"),
        ({"question": "When?", "colour": "red"}, "line 1: colour: is no field of a request"),
        ({"question": ""}, "line 1: "),
    ],
)
def test_a_line_that_is_no_case_is_refused_with_its_number(
    kafka: MemoryKafka, line: dict[str, Any], problem: str
) -> None:
    result = run([line])
    assert problem in str(result.exception)
    assert kafka.sent == []
