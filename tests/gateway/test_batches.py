"""Batches with OpenAI's client: each row once, whichever copy of the gateway dies."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from forebay_client.batch import batch as batch_module
from forebay_client.errors import BrokerUnavailable
from forebay_gateway.batches import jobs, running
from forebay_gateway.keys import KeyFile
from forebay_schemas.config import Config, changed
from forebay_schemas.records import Reply, Request
from openai import BadRequestError, ConflictError, NotFoundError, OpenAI, RateLimitError
from openai.types import Batch

from tests.gateway.running import Gateway, gateway_on
from tests.gateway.test_files import client_of, upload
from tests.producers.batch_doubles import MemoryLog, a_line, echo, failing, small_portions
from tests.producers.doubles import MemoryKafka
from tests.waiting import eventually

ENDED = ("completed", "failed", "expired", "cancelled")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    return MemoryLog(monkeypatch)


@pytest.fixture
def openai(log: MemoryLog, copies: list[Gateway]) -> OpenAI:
    return client_of(copies[0])


@pytest.fixture
def soon_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is gone is missed at once."""
    monkeypatch.setattr(jobs, "LEASE_S", 0.5)
    monkeypatch.setattr(running, "_RENEW_EVERY_S", 0.1)


def nothing_yet(request: Request) -> Reply | None:
    """Answers nothing."""


def rows(*lines: Any) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def questions(count: int) -> bytes:
    return rows(*(a_line(f"row-{number}", f"Question {number}?") for number in range(1, count + 1)))


def submit(openai: OpenAI, data: bytes, **given: Any) -> Batch:
    return openai.batches.create(
        input_file_id=upload(openai, data).id, endpoint="/v1/chat/completions", completion_window="24h", **given
    )


def ended(openai: OpenAI, batch: Batch) -> Batch:
    def retrieved() -> Batch | None:
        now = openai.batches.retrieve(batch.id)
        return now if now.status in ENDED else None

    return eventually(retrieved, "the batch has ended", 30)


def lines_of(openai: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in openai.files.content(file_id).text.splitlines()]


def test_a_batch_goes_from_its_file_to_the_file_of_its_answers(
    openai: OpenAI, copies: list[Gateway], log: MemoryLog
) -> None:
    batch = submit(openai, questions(5), metadata={"night": "17"})
    assert (batch.object, batch.status, batch.metadata) == ("batch", "validating", {"night": "17"})
    assert batch.expires_at == batch.created_at + 86_400
    done = ended(client_of(copies[1]), batch)
    assert (done.status, done.error_file_id, done.errors) == ("completed", None, None)
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 5, "completed": 5, "failed": 0}
    assert batch.created_at <= (done.in_progress_at or 0) <= (done.finalizing_at or 0) <= (done.completed_at or 0)
    answers = lines_of(openai, done.output_file_id)
    assert [line["custom_id"] for line in answers] == [f"row-{number}" for number in range(1, 6)]
    message = answers[0]["response"]["body"]["choices"][0]["message"]
    assert (answers[0]["response"]["status_code"], message["content"]) == (200, "Question 1?")
    assert openai.files.retrieve(done.output_file_id or "").purpose == "batch_output"
    assert {request.tenant for request in log.requests} == {"default"}


def test_rows_that_fail_are_in_a_file_of_their_own(openai: OpenAI, log: MemoryLog) -> None:
    log.answer = lambda request: (failing if request.messages[-1].content == "Question 2?" else echo)(request)
    third = a_line("row-3", "Question 3?", n=2)
    done = ended(openai, submit(openai, questions(2) + rows(third), output_expires_after=AN_HOUR))
    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 3, "completed": 1, "failed": 2}
    assert [line["custom_id"] for line in lines_of(openai, done.output_file_id)] == ["row-1"]
    codes = {
        line["custom_id"]: line["response"]["body"]["error"]["code"] for line in lines_of(openai, done.error_file_id)
    }
    assert codes == {"row-2": "given_up", "row-3": "invalid_request"}
    for file_id in (done.output_file_id, done.error_file_id):
        file = openai.files.retrieve(file_id or "")
        assert file.expires_at == file.created_at + 3_600


AN_HOUR: Any = {"anchor": "created_at", "seconds": 3_600}


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (questions(1) + b"{oops\n", [("invalid_json_line", 2, None)]),
        (questions(1) * 2, [("duplicate_custom_id", 2, "custom_id")]),
        (
            b"\n" + rows(a_line("", "Hello?"), {**a_line("b", "Hello?"), "url": "/v1/embeddings"}),
            [("invalid_custom_id", 2, "custom_id"), ("invalid_url", 3, "url")],
        ),
        (rows(a_line("a", "Hello?", model="gpt-9")), [("model_not_found", 1, "model")]),
        (b"\n", [("empty_file", None, None)]),
        (rows(a_line("a", "Hello?", n=2)), [("invalid_request", None, None)]),
    ],
    ids=["no JSON", "repeated", "custom_id and url", "model", "empty", "nothing that can be sent"],
)
def test_a_file_that_is_none_of_requests_fails_its_batch(
    openai: OpenAI, log: MemoryLog, data: bytes, found: list[Any]
) -> None:
    failed = ended(openai, submit(openai, data))
    assert (failed.status, failed.output_file_id, log.requests) == ("failed", None, [])
    assert failed.failed_at is not None
    assert failed.errors is not None
    assert [(error.code, error.line, error.param) for error in failed.errors.data or []] == found


def test_a_batch_that_is_cancelled_keeps_what_is_answered(openai: OpenAI, log: MemoryLog) -> None:
    log.answer = lambda request: echo(request) if request.messages[-1].content == "Question 1?" else None
    batch = submit(openai, questions(3))
    eventually(lambda: len(log.requests) == 3, "it is sent", 20)
    assert openai.batches.cancel(batch.id).status == "cancelling"
    eventually(lambda: log.commands, "it is taken back", 20)
    for request in log.requests[1:]:
        log.reply(cancelled(request))
    done = ended(openai, batch)
    assert (done.status, openai.batches.cancel(batch.id).status) == ("cancelled", "cancelled")
    assert [line["custom_id"] for line in lines_of(openai, done.output_file_id)] == ["row-1"]
    errors = {line["custom_id"]: line["error"]["code"] for line in lines_of(openai, done.error_file_id)}
    assert errors == {"row-2": "batch_cancelled", "row-3": "batch_cancelled"}


def cancelled(request: Request) -> Reply:
    reply = failing(request)
    assert reply.error is not None
    return msgspec.structs.replace(reply, error=msgspec.structs.replace(reply.error, code="cancelled"))


def test_what_cannot_be_asked_is_named(openai: OpenAI) -> None:
    file = upload(openai, questions(1)).id
    good: Any = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    for name, value in {"endpoint": "/v1/embeddings", "completion_window": "1h", "metadata": {"a": "b" * 513}}.items():
        with pytest.raises(BadRequestError) as refused:
            openai.batches.create(**{**good, name: value})
        assert (refused.value.param or "").startswith(name)
    with pytest.raises(NotFoundError):
        openai.batches.create(**{**good, "input_file_id": "file-unknown"})
    done = ended(openai, openai.batches.create(**good))
    with pytest.raises(BadRequestError, match="purpose"):
        openai.batches.create(**{**good, "input_file_id": done.output_file_id})
    with pytest.raises(ConflictError):
        openai.batches.cancel(done.id)


def test_batches_are_listed_the_newest_first(openai: OpenAI) -> None:
    ids = {ended(openai, submit(openai, questions(1))).id for _ in range(3)}
    listed = list(openai.batches.list(limit=2))
    assert {batch.id for batch in listed} == ids
    assert [batch.created_at for batch in listed] == sorted((batch.created_at for batch in listed), reverse=True)


def test_a_file_that_a_batch_reads_stays(openai: OpenAI, log: MemoryLog) -> None:
    log.answer = nothing_yet
    batch = submit(openai, questions(1))
    with pytest.raises(ConflictError, match=batch.id):
        openai.files.delete(batch.input_file_id)
    eventually(lambda: log.requests, "it is sent", 20)
    log.answer_all()
    ended(openai, batch)
    assert openai.files.delete(batch.input_file_id).deleted


def test_an_equal_file_is_another_batch_and_an_equal_key_is_the_same(openai: OpenAI, log: MemoryLog) -> None:
    file = upload(openai, questions(2)).id

    def create(**given: Any) -> str:
        return openai.batches.create(
            input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h", **given
        ).id

    assert create() != create()
    key = {"Idempotency-Key": "night-17"}
    assert create(extra_headers=key) == create(extra_headers=key)


@pytest.mark.parametrize("commit", [1, 2, 3])
def test_a_copy_that_dies_is_replaced_and_no_row_is_sent_twice(
    soon_taken_over: None,
    log: MemoryLog,
    kafka: MemoryKafka,
    counted: Config,
    monkeypatch: pytest.MonkeyPatch,
    commit: int,
) -> None:
    small_portions(monkeypatch)
    log.die_after = {commit}
    with gateway_on(counted) as one, gateway_on(counted) as other:
        batch = submit(client_of(one), questions(8))
        done = ended(client_of(other), batch)
        assert done.status == "completed"
        assert log.rows == list(range(1, 9))
        assert len(lines_of(client_of(other), done.output_file_id)) == 8


def test_a_copy_that_stops_leaves_its_batches_to_the_others(
    log: MemoryLog, kafka: MemoryKafka, counted: Config
) -> None:
    log.answer = nothing_yet
    with gateway_on(counted) as other:
        with gateway_on(counted) as one:
            batch = submit(client_of(one), questions(3))
            eventually(lambda: len(log.requests) == 3, "it is sent", 20)
        log.answer_all()
        assert ended(client_of(other), batch).status == "completed"
        assert log.rows == [1, 2, 3]


def test_while_the_brokers_are_away_a_batch_waits(
    soon_taken_over: None, openai: OpenAI, log: MemoryLog, copies: list[Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise BrokerUnavailable("no broker answers")

    def failures() -> float:
        return sum(copy.counted("forebay_gateway_batch_failures_total") for copy in copies)

    with monkeypatch.context() as broken:
        broken.setattr(batch_module, "StateLog", away)
        batch = submit(openai, questions(2))
        eventually(lambda: failures() > 1, "it is tried again and again", 20)
    assert ended(openai, batch).status == "completed"
    assert log.rows == [1, 2]


@contextmanager
def keyed(counted: Config, folder: Path, **limits: dict[str, Any]) -> Iterator[list[OpenAI]]:
    """Clients of a gateway, for each tenant one with a key that has these limits."""
    file = KeyFile(folder / "keys.json")
    texts = [file.create(tenant, **given)[1] for tenant, given in limits.items()]
    with gateway_on(changed(counted, {"gateway": {"key_file": folder / "keys.json"}})) as gateway:
        yield [client_of(gateway, text) for text in texts]


def test_a_tenant_sees_its_own_batches_alone(
    log: MemoryLog, kafka: MemoryKafka, counted: Config, tmp_path: Path
) -> None:
    with keyed(counted, tmp_path, acme={}, rival={}) as (acme, rival):
        batch = submit(acme, questions(1))
        assert list(rival.batches.list()) == []
        for call in (rival.batches.retrieve, rival.batches.cancel):
            with pytest.raises(NotFoundError):
                call(batch.id)
        with pytest.raises(NotFoundError):
            rival.batches.create(
                input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        assert ended(acme, batch).status == "completed"
        assert {request.tenant for request in log.requests} == {"acme"}


def test_a_batch_is_charged_to_its_key(log: MemoryLog, kafka: MemoryKafka, counted: Config, tmp_path: Path) -> None:
    log.answer = lambda request: msgspec.structs.replace(echo(request), cost=0.25)
    with keyed(counted, tmp_path, acme={"usd_per_day": 1.0}) as (openai,):
        first = submit(openai, questions(2))
        assert ended(openai, first).status == "completed"
        assert ended(openai, submit(openai, questions(2))).status == "completed"
        with pytest.raises(RateLimitError, match="usd_per_day"):
            submit(openai, questions(1))
        assert openai.batches.retrieve(first.id).status == "completed"


def test_a_batch_does_not_pass_what_its_key_may_spend(
    log: MemoryLog, kafka: MemoryKafka, counted: Config, tmp_path: Path
) -> None:
    log.answer = cancelled
    with keyed(counted, tmp_path, acme={"usd_per_month": 1e-7}) as (openai,):
        failed = ended(openai, submit(openai, questions(2)))
        assert (failed.status, log.requests) == ("failed", [])
        assert failed.errors is not None
        assert [error.code for error in failed.errors.data or []] == ["insufficient_quota"]
