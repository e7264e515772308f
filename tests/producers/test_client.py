"""The client as a service sees it, on a broker in memory."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from forebay_client import (
    BrokerUnavailable,
    Client,
    ClientClosed,
    ConfigError,
    DeadlineExceeded,
    ForebayError,
    InvalidRequest,
    RecordError,
    Reply,
    ReplyTimeout,
    Request,
    RequestFailed,
    RequestTooLarge,
)
from forebay_schemas.config import Config
from forebay_schemas.records import ReplyError
from forebay_schemas.sections import RequestTopic

from tests.builders import make_reply, make_request
from tests.producers.doubles import CODEC, MemoryKafka, echo, silence


def failing(code: str) -> Any:
    def answer(request: Request) -> list[Reply]:
        error = ReplyError(code=code, message="no luck", retryable=True)
        return [make_reply(request_id=request.request_id, tenant=request.tenant, text="", error=error)]

    return answer


# --- asking -----------------------------------------------------------------------------------------------------


def test_an_answer_comes_back_to_its_asker(client: Client) -> None:
    assert client.ask("Hello?").text == "Hello?"


def test_many_threads_share_one_client_and_each_gets_its_own_answer(client: Client, kafka: MemoryKafka) -> None:
    questions = [f"question {number}" for number in range(200)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda question: client.ask(question).text, questions))
    assert answers == questions
    assert len(kafka.inboxes) == 1


def test_instances_whose_keys_share_a_partition_get_their_own_replies_only(kafka: MemoryKafka, config: Config) -> None:
    with Client("acme", config=config) as one, Client("acme", config=config) as two:
        one.ask("one")
        assert two.ask("two").text == "two"
        assert one.ask("three").text == "three"
    assert kafka.inboxes[0].reply_key != kafka.inboxes[1].reply_key


def test_records_that_nobody_awaits_are_not_even_decoded(client: Client, kafka: MemoryKafka) -> None:
    client.ask("so that the reader runs")
    kafka.reply(make_reply(request_id="of another instance"), value=b"not avro")
    assert client.ask("Hello?").text == "Hello?"


def test_an_answer_that_cannot_be_decoded_is_an_error_at_once(client: Client, kafka: MemoryKafka) -> None:
    def garbage(request: Request) -> list[Reply]:
        kafka.reply(make_reply(request_id=request.request_id), value=b"not avro")
        return []

    kafka.answer = garbage
    with pytest.raises(RecordError):
        client.ask("Hello?")


def test_another_requests_answer_under_the_headers_of_this_one_is_given_to_nobody(
    client: Client, kafka: MemoryKafka
) -> None:
    def forged_first(request: Request) -> list[Reply]:
        named = make_reply(request_id=request.request_id)
        for other in (make_reply(request_id="another"), make_reply(request_id=request.request_id, tenant="rival")):
            kafka.reply(named, value=CODEC.encode(other))
        return echo(request)

    kafka.answer = forged_first
    assert client.ask("Hello?").text == "Hello?"


def test_error_replies_are_typed(client: Client, kafka: MemoryKafka) -> None:
    kafka.answer = failing("engine_failed")
    with pytest.raises(RequestFailed, match="no luck") as failed:
        client.ask("Hello?")
    assert (failed.value.code, failed.value.retryable) == ("engine_failed", True)
    kafka.answer = failing("deadline_exceeded")
    with pytest.raises(DeadlineExceeded) as late:
        client.ask("Hello?")
    assert isinstance(late.value, TimeoutError)


def test_silence_is_a_timeout(client: Client, kafka: MemoryKafka) -> None:
    kafka.answer = silence
    with pytest.raises(ReplyTimeout) as caught:
        client.ask("Hello?", timeout_s=0.2)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.request_id == kafka.sent[0].request.request_id


def test_the_time_to_wait_is_the_deadline_unless_there_is_another(client: Client, kafka: MemoryKafka) -> None:
    before_ms = time.time() * 1000
    client.ask("Hello?", timeout_s=20)
    client.ask("Hello?", timeout_s=20, deadline_s=5)
    client.ask(make_request(deadline_ms=4_000_000_000_000), timeout_s=20)
    default, own, finished = (sent.headers.deadline_ms or 0 for sent in kafka.sent)
    assert 19_000 < default - before_ms < 30_000
    assert 4_000 < own - before_ms < 15_000
    assert finished == 4_000_000_000_000


def test_a_wrong_request_is_refused_before_anything_is_published(client: Client, kafka: MemoryKafka) -> None:
    with pytest.raises(InvalidRequest, match="max_tokens"):
        client.ask("Hello?", max_tokens=-1)
    with pytest.raises(InvalidRequest, match="timeout_s"):
        client.ask("Hello?", timeout_s=0)
    assert kafka.sent == []


def test_a_request_at_the_limit_goes_and_one_above_is_refused_with_its_size(
    client: Client, kafka: MemoryKafka, config: Config
) -> None:
    limit = config.kafka.max_record_bytes
    spare = limit - len(kafka_value(client, kafka, "x" * 900_000)) + 900_000
    assert len(kafka_value(client, kafka, "x" * spare)) == limit
    with pytest.raises(RequestTooLarge, match="max_record_bytes") as caught:
        client.publish(make_request("x" * (spare + 1)))
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (limit + 1, limit)


def kafka_value(client: Client, kafka: MemoryKafka, question: str) -> bytes:
    client.publish(make_request(question))
    return kafka.sent[-1].value


# --- the brokers are away ---------------------------------------------------------------------------------------


def test_an_undelivered_question_fails_with_the_reason(client: Client, kafka: MemoryKafka) -> None:
    kafka.delivery = "the topic is gone"
    with pytest.raises(BrokerUnavailable, match="the topic is gone"):
        client.ask("Hello?")


def test_a_question_that_is_never_acknowledged_blames_the_brokers(kafka: MemoryKafka, config: Config) -> None:
    kafka.no_delivery = True
    client = Client("acme", config=config)
    with pytest.raises(BrokerUnavailable, match="acknowledged"):
        client.ask("Hello?", timeout_s=0.2)
    with pytest.raises(BrokerUnavailable):
        client.close()


def test_nothing_is_published_where_its_reply_could_not_be_read(client: Client, kafka: MemoryKafka) -> None:
    kafka.reachable = False
    with pytest.raises(BrokerUnavailable):
        client.ask("Hello?")
    assert kafka.sent == []
    kafka.reachable = True
    assert client.ask("Hello?").text == "Hello?"


def test_flush_tells_once_what_did_not_reach_the_brokers(client: Client, kafka: MemoryKafka) -> None:
    kafka.delivery = "no leader"
    request_id = client.publish("Hello?")
    with pytest.raises(BrokerUnavailable) as caught:
        client.flush()
    assert caught.value.request_ids == (request_id,)
    client.flush()


# --- publishing -------------------------------------------------------------------------------------------------


def test_publishing_without_a_callback_reads_nothing_and_sends_no_reply_key(client: Client, kafka: MemoryKafka) -> None:
    request_id = client.publish("Hello?", category="support")
    [sent] = kafka.sent
    assert kafka.inboxes == []
    assert (sent.request.request_id, sent.headers.request_id) == (request_id, request_id)
    assert (sent.topic, sent.key) == ("llm.requests", request_id.encode())
    assert (sent.headers.tenant, sent.headers.reply_key, sent.headers.reply_topic) == ("acme", None, None)


def test_a_callback_gets_the_reply_once_however_often_it_is_written(client: Client, kafka: MemoryKafka) -> None:
    kafka.answer = lambda request: echo(request) * 3
    replies: list[Reply] = []
    request_id = client.publish("Hello?", on_reply=replies.append)
    assert client.wait(10) == 0
    client.ask("so that the repeats have been read")
    assert [reply.request_id for reply in replies] == [request_id]
    assert kafka.sent[0].headers.reply_key == kafka.inboxes[0].reply_key


def test_a_callback_gets_error_replies_too(client: Client, kafka: MemoryKafka) -> None:
    kafka.answer = failing("engine_failed")
    replies: list[Reply] = []
    client.publish("Hello?", on_reply=replies.append)
    client.wait(10)
    assert replies[0].error
    assert replies[0].error.code == "engine_failed"


def test_a_callback_that_fails_harms_nobody(client: Client) -> None:
    client.publish("Hello?", on_reply=lambda _: 1 / 0)
    assert client.ask("Still there?").text == "Still there?"


def test_a_callback_that_would_wait_for_its_own_thread_is_told(client: Client) -> None:
    problems: list[str] = []

    def ask_again(_: Reply) -> None:
        try:
            client.ask("And now?")
        except RuntimeError as error:
            problems.append(str(error))

    client.publish("Hello?", on_reply=ask_again)
    client.wait(10)
    assert "another thread" in problems[0]


def test_failures_reach_the_other_callback(client: Client, kafka: MemoryKafka) -> None:
    kafka.delivery = "no leader"
    failures: list[tuple[str, ForebayError]] = []
    request_id = client.publish("Hello?", on_failure=lambda *failure: failures.append(failure))
    client.wait(10)
    [(failed_id, error)] = failures
    assert failed_id == request_id
    assert isinstance(error, BrokerUnavailable)


def test_a_batch_request_goes_to_the_batch_topic(client: Client, kafka: MemoryKafka) -> None:
    client.publish("Hello?", lane="batch")
    assert kafka.sent[0].topic == "llm.requests.batch"


def test_a_tenant_with_a_topic_of_its_own_is_published_there(kafka: MemoryKafka, config: Config) -> None:
    own = {"acme.in": RequestTopic(tenant="acme"), "acme.in.batch": RequestTopic(tenant="acme", lane="batch")}
    with Client("acme", config=config.model_copy(update={"request_topics": own})) as client:
        client.publish("Hello?")
        client.publish("Hello?", lane="batch")
        client.publish("Hello?", tenant="globex")
    assert [sent.topic for sent in kafka.sent] == ["acme.in", "acme.in.batch", "llm.requests"]


def test_a_reply_topic_of_ones_own_is_named_to_the_pipeline_and_read(kafka: MemoryKafka, config: Config) -> None:
    section = config.kafka.model_copy(update={"reply_topics": ["billing.replies"]})
    with Client("acme", config=config.model_copy(update={"kafka": section}), reply_topic="billing.replies") as client:
        client.ask("Hello?")
    assert kafka.sent[0].headers.reply_topic == kafka.inboxes[0].topic == "billing.replies"
    with pytest.raises(ConfigError, match=r"kafka\.reply_topics"):
        Client("acme", config=config, reply_topic="billing.replies")


def test_a_trace_context_travels_as_a_header(client: Client, kafka: MemoryKafka) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    client.publish("Hello?", traceparent=trace)
    assert kafka.sent[0].headers.traceparent == trace


# --- the end ----------------------------------------------------------------------------------------------------


def test_closing_fails_those_who_wait_and_what_comes_later(kafka: MemoryKafka, config: Config) -> None:
    kafka.answer = silence
    client = Client("acme", config=config)
    failures: list[ForebayError] = []
    client.publish("Hello?", on_failure=lambda _, error: failures.append(error))
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(client.ask, "Hello?")
        while len(kafka.sent) < 2:
            time.sleep(0.001)
        client.close()
        assert isinstance(asking.exception(10), ClientClosed)
    assert isinstance(failures[0], ClientClosed)
    assert kafka.inboxes[0].closed
    with pytest.raises(ClientClosed):
        client.ask("Hello?")
    with pytest.raises(ClientClosed):
        client.publish("Hello?")
    client.close()


def test_closing_ends_the_clients_thread(kafka: MemoryKafka, config: Config) -> None:
    with Client("acme", config=config) as client:
        client.ask("Hello?")
        assert "forebay-client" in {thread.name for thread in threading.enumerate()}
    assert "forebay-client" not in {thread.name for thread in threading.enumerate()}


def test_ctrl_c_is_not_hidden_by_what_closing_finds(kafka: MemoryKafka, config: Config) -> None:
    kafka.delivery = "no leader"

    def interrupted() -> None:
        with Client("acme", config=config) as client:
            client.publish("Hello?")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(BrokerUnavailable), Client("acme", config=config) as client:
        client.publish("Hello?")


def test_a_reader_that_breaks_fails_those_who_wait_instead_of_leaving_them(
    client: Client, kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.ask("Hello?")
    kafka.answer = silence

    def broken(timeout_s: float) -> None:
        raise OSError("the consumer is gone")

    monkeypatch.setattr(kafka.inboxes[0], "poll", broken)
    with pytest.raises(ClientClosed, match="the consumer is gone"):
        client.ask("Hello?")


def test_a_client_made_before_a_fork_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.ask("Hello?")
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        with pytest.raises(RuntimeError, match="forked"):
            client.ask("Hello?")
        client.close()
    assert client.ask("Still the parent's?").text == "Still the parent's?"


def test_a_client_does_not_change_after_construction(client: Client) -> None:
    with pytest.raises(AttributeError):
        client.tenant = "globex"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError):
        client.timeout_s = 5  # pyright: ignore[reportAttributeAccessIssue]
