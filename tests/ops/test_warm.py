"""`forebay warm` from a shell, on a broker in memory: what is asked, what is not, and what is asked again."""

import json
import signal
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from forebay_client import Reply, Request, core
from forebay_ops.cli import forebay, warm
from forebay_ops.warming import journal
from forebay_schemas.config import load_config
from forebay_schemas.prices import upper_bound
from forebay_schemas.records import CacheOptions, CachePolicy, CacheStatus, Lane, ReplyError

from tests.builders import make_reply, make_request
from tests.producers.doubles import MemoryKafka, silence


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryKafka:
    memory = MemoryKafka(answer=generated)
    monkeypatch.setattr(core, "Outbox", memory.outbox)
    monkeypatch.setattr(core, "Inbox", memory.inbox)
    monkeypatch.chdir(tmp_path)
    return memory


def run(*arguments: object) -> Result:
    return CliRunner().invoke(forebay, ["warm", *map(str, arguments)])


def generated(request: Request) -> list[Reply]:
    return [make_reply(request_id=request.request_id, tenant=request.tenant, cost=0.001)]


def asked(kafka: MemoryKafka) -> list[str]:
    return [sent.request.messages[-1].content or "" for sent in kafka.sent]


def file_of(tmp_path: Path, *lines: object) -> Path:
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps({"question": line} if isinstance(line, str) else line) + "\n" for line in lines))
    return file


def shown(result: Result) -> dict[str, str]:
    """The figures that were printed, by what they say."""
    return dict(line.strip().rsplit(maxsplit=1) for line in result.stdout.splitlines() if line.strip() != "requests")


def test_each_request_is_asked_once_on_the_batch_lane_and_its_fate_is_shown(kafka: MemoryKafka, tmp_path: Path) -> None:
    fates = {
        "One?": {"cost": 0.001},
        "Two?": {"cache_status": CacheStatus.EXACT, "hops": 0},
        "Three?": {"cache_status": CacheStatus.SEMANTIC, "hops": 0},
        "Four?": {"cost": 0.002, "finish_reason": "length"},
    }
    kafka.answer = lambda request: [
        make_reply(request_id=request.request_id, tenant="acme", **fates[request.messages[-1].content or ""])
    ]
    lines = [
        {"question": "One?", "request_id": "mine", "lane": "interactive", "deadline_ms": 1, "stream": True},
        " One? ",
        *("Two?", "Three?", "Four?"),
        "What is the weather today?",
        {"question": "Five?", "cache": {"policy": "bypass"}},
    ]
    result = run(file_of(tmp_path, *lines), "--tenant", "acme")

    assert result.exit_code == 0, result.output
    assert shown(result) == {
        "asked": "4",
        "cached already": "1",
        "a similar question is cached already": "1",
        "generated": "2",
        "of these cut off or doubtful: no cache keeps them": "1",
        "equal to another of them": "1",
        "not asked: the answer depends on when it is asked": "1",
        "not asked: the request or its category forbids reuse": "1",
        "cost": "$0.00300",
    }
    assert asked(kafka) == ["One?", "Two?", "Three?", "Four?"]
    first = kafka.sent[0].request
    assert (first.lane, first.cache.policy, first.stream) == (Lane.BATCH, CachePolicy.USE, False)
    assert first.request_id != "mine"
    assert first.deadline_ms == pytest.approx(first.created_ms + 24 * 3_600_000, abs=60_000)
    assert list(tmp_path.iterdir()) == [tmp_path / "questions.jsonl"]  # a finished run leaves no journal


def test_a_run_that_is_stopped_takes_back_what_is_unanswered_and_the_next_asks_only_the_rest(
    kafka: MemoryKafka, tmp_path: Path
) -> None:
    file = file_of(tmp_path, *(f"Question {number}?" for number in range(10)))

    def until_the_fourth(request: Request) -> list[Reply]:
        if len(kafka.sent) <= 4:
            return generated(request)
        signal.raise_signal(signal.SIGINT)
        return []

    kafka.answer = until_the_fourth
    stopped = run(file, "--tenant", "acme", "--in-flight", 1)
    assert stopped.exit_code != 0
    assert "the same command again goes on from here" in stopped.stderr
    assert shown(stopped)["left, not answered"] == "6"
    assert kafka.cancelled == [("acme", kafka.sent[4].request.request_id)]

    kafka.answer, before = generated, len(kafka.sent)
    done = run(file, "--tenant", "acme")
    assert done.exit_code == 0, done.output
    assert asked(kafka)[before:] == [f"Question {number}?" for number in range(4, 10)]
    assert shown(done)["answered by the run before"] == "4"
    ids = [sent.request.request_id for sent in kafka.sent]
    assert len(set(ids)) == len(ids)  # an id that was used is answered to nobody again

    assert run(file, "--tenant", "acme").exit_code == 0  # when all was done, a new run asks all: it costs nothing then
    assert len(kafka.sent) == before + 6 + 10


def test_what_failed_is_asked_again_and_so_is_what_would_have_expired(
    kafka: MemoryKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_of(tmp_path, "One?", "Two?")

    def one_fails(request: Request) -> list[Reply]:
        error = ReplyError(code="engine_failed", message="no luck", retryable=True)
        [reply] = generated(request)
        return (
            [make_reply(request_id=reply.request_id, tenant="acme", error=error)]
            if asked(kafka)[-1] == "Two?"
            else [reply]
        )

    kafka.answer = one_fails
    for _ in range(2):
        failed = run(file, "--tenant", "acme")
        assert failed.exit_code == 1
        assert shown(failed)["failed: engine_failed"] == "1"
    assert asked(kafka) == ["One?", "Two?", "Two?"]
    (tmp_path / "questions.jsonl.warming").open("a").write('{"key": "half a li')  # as a crash leaves it
    assert run(file, "--tenant", "acme").exit_code == 1
    assert asked(kafka)[3:] == ["Two?"]
    now_s = journal.time.time()
    monkeypatch.setattr(journal.time, "time", lambda: now_s + 365 * 86_400)
    run(file, "--tenant", "acme")
    assert asked(kafka)[4:] == ["One?", "Two?"]


def test_to_refresh_is_to_generate_anew_whatever_a_run_without_it_has_noted(kafka: MemoryKafka, tmp_path: Path) -> None:
    file = file_of(tmp_path, "One?", "Two?")
    kafka.answer = lambda request: generated(request) if len(kafka.sent) == 1 else []
    run(file, "--tenant", "acme", "--timeout", 0.1)
    kafka.answer = generated
    assert run(file, "--tenant", "acme", "--refresh").exit_code == 0
    assert [sent.request.cache.policy for sent in kafka.sent] == ["use", "use", "refresh", "refresh"]


def test_not_more_is_spent_than_is_allowed_whatever_is_in_flight(kafka: MemoryKafka, tmp_path: Path) -> None:
    file = file_of(tmp_path, *(f"Question {number}?" for number in range(40)))
    dearest = upper_bound(make_request("Question 10?"), load_config(), Lane.BATCH)
    flying, most_flying, spent = set[str](), 0, 0.0

    def later(request: Request) -> list[Reply]:
        nonlocal most_flying
        flying.add(request.request_id)
        most_flying = max(most_flying, len(flying))

        def land() -> None:
            nonlocal spent
            flying.discard(request.request_id)
            spent += dearest
            kafka.reply(make_reply(request_id=request.request_id, tenant="acme", cost=dearest))

        threading.Timer(0.01, land).start()
        return []

    kafka.answer = later
    result = run(file, "--tenant", "acme", "--max-usd", 10.5 * dearest)
    assert result.exit_code == 1
    assert "more than is left of --max-usd" in result.stderr
    assert len(kafka.sent) == 10
    assert 1 < most_flying <= 10
    assert spent <= 10.5 * dearest
    assert shown(result)["left, not answered"] == "30"


def test_it_gives_up_when_nothing_comes(kafka: MemoryKafka, tmp_path: Path) -> None:
    kafka.answer = silence
    result = run(file_of(tmp_path, "One?", "Two?"), "--tenant", "acme", "--timeout", 0.1)
    assert result.exit_code == 1
    assert "nothing came for 0.1 s; see with `forebay status`" in result.stderr
    assert len(kafka.cancelled) == 2


def test_a_bad_line_is_told_before_anything_is_sent(kafka: MemoryKafka, tmp_path: Path) -> None:
    result = run(file_of(tmp_path, "One?", {"question": "Two?", "max_token": 5}), "--tenant", "acme")
    assert str(result.exception).startswith("line 2: max_token: is no field of a request")
    assert kafka.sent == []


def test_a_dry_run_says_what_would_be_asked_and_leaves_nothing(kafka: MemoryKafka, tmp_path: Path) -> None:
    file = file_of(tmp_path, "One?", "What is my balance?")
    result = run(file, "--tenant", "acme", "--dry-run")
    assert (result.exit_code, kafka.sent, list(tmp_path.iterdir())) == (0, [], [file])
    assert shown(result) == {"to ask": "1", "not asked: the answer depends on who asks": "1"}


def test_a_journal_that_is_none_is_refused_and_kept(kafka: MemoryKafka, tmp_path: Path) -> None:
    file = file_of(tmp_path, "One?")
    result = run(file, "--tenant", "acme", "--journal", file)
    assert "is no journal of `forebay warm`" in str(result.exception)
    assert "One?" in file.read_text()
    assert kafka.sent == []


def test_the_most_asked_of_the_history_are_asked_each_for_its_tenant(
    kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    def request(question: str, tenant: str, number: int, **fields: object) -> Request:
        return make_request(question, request_id=f"r-{number}", tenant=tenant, **fields)

    history = [
        *(request("Often?", "acme", number) for number in range(5)),
        *(request(" Often? ", "globex", number, cache=CacheOptions(ttl_s=60)) for number in range(4)),
        *(request("Less often?", "acme", number) for number in range(3)),
        *(request("Seldom?", "acme", number) for number in range(2)),
        *(request("Is it raining now?", "acme", number) for number in range(9)),
        *(make_request("Warmed?", request_id=f"warm-1-{number}") for number in range(9)),
        request("Once?", "acme", 0),
    ]
    since: list[int | None] = []

    def read(_: object, since_ms: int | None) -> Iterable[Request]:
        since.append(since_ms)
        return iter(history)

    monkeypatch.setattr(warm, "requests_since", read)
    result = run("--history", "--top", 3, "--since", "2026-11-21")
    assert result.exit_code == 0, result.output
    assert [(sent.request.tenant, asked) for sent, asked in zip(kafka.sent, asked(kafka), strict=True)] == [
        ("acme", "Often?"),
        ("globex", " Often? "),
        ("acme", "Less often?"),
    ]
    assert kafka.sent[1].request.cache.ttl_s == 60
    assert since[0] == 1_795_219_200_000
    assert (
        "24 requests in the history; the 3 that were asked most, each more than once, are 12 of them (50.0%);"
        in result.stderr
    )
    run("--history", "--tenant", "globex")
    assert asked(kafka)[3:] == [" Often? "]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give a FILE of requests or --history"),
        (("questions.jsonl", "--history"), "one of the two"),
        (("questions.jsonl", "--since", "7d"), "--since belongs to --history"),
    ],
)
def test_what_contradicts_itself_is_refused(
    kafka: MemoryKafka, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    file_of(tmp_path, "One?")
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
