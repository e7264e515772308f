"""Streams of the threaded client: pieces as they come, typed errors, and nothing paid for whoever has left."""

import gc
import threading

import pytest
from forebay_client import (
    BrokerUnavailable,
    Client,
    ClientClosed,
    InvalidRequest,
    Reply,
    ReplyTimeout,
    Request,
    RequestCancelled,
    StreamRestarted,
)
from forebay_schemas.config import Config
from forebay_schemas.records import Chunk, ReplyError

from tests.builders import make_reply
from tests.producers.doubles import MemoryKafka, silence
from tests.waiting import eventually


class Writer:
    """What workers write to the one request that was sent last."""

    def __init__(self, kafka: MemoryKafka) -> None:
        kafka.answer = silence
        self._kafka = kafka

    @property
    def request(self) -> Request:
        return self._kafka.sent[-1].request

    def piece(self, index: int, text: str, attempt: int = 1, value: bytes | None = None) -> None:
        chunk = Chunk(
            request_id=self.request.request_id, tenant=self.request.tenant, attempt=attempt, index=index, text=text
        )
        self._kafka.chunk(chunk, value)

    def reply(self, text: str = "", code: str | None = None) -> None:
        error = code and ReplyError(code=code, message="no luck", retryable=False)
        request = self.request
        self._kafka.reply(
            make_reply(request_id=request.request_id, tenant=request.tenant, text=text, error=error or None)
        )


@pytest.fixture
def writer(kafka: MemoryKafka) -> Writer:
    return Writer(kafka)


def test_pieces_come_before_the_answer_is_complete_and_the_reply_after(client: Client, writer: Writer) -> None:
    stream = client.stream("How?", category="support", timeout_s=20)
    assert writer.request.stream
    assert writer.request.category == "support"
    writer.piece(0, "Like")
    assert next(stream) == "Like"
    with pytest.raises(RuntimeError, match="end of the stream"):
        _ = stream.reply
    writer.piece(1, " this")
    assert next(stream) == " this"
    writer.reply("Like this.")
    assert list(stream) == ["."]
    assert (stream.reply.text, stream.reply.request_id) == ("Like this.", stream.request_id)


def test_an_answer_without_pieces_comes_whole(client: Client) -> None:
    assert list(client.stream("Hello?")) == ["Hello?"]


def test_what_comes_behind_the_reply_is_passed_over(client: Client, kafka: MemoryKafka, writer: Writer) -> None:
    stream = client.stream("How?")
    writer.piece(0, "Like")
    assert next(stream) == "Like"
    writer.reply("Like this.")
    assert list(stream) == [" this."]
    writer.piece(1, " this.")
    writer.piece(2, "not avro", value=b"nobody decodes it")
    again = client.stream("And now?")
    writer.piece(0, "Now")
    assert next(again) == "Now"
    writer.reply("Now")
    assert list(again) == []


def test_two_streams_of_a_client_share_their_readers_and_not_their_pieces(client: Client, kafka: MemoryKafka) -> None:
    writer = Writer(kafka)
    one = client.stream("one")
    writer.piece(0, "1")
    two = client.stream("two")
    writer.piece(0, "2")
    assert (next(one), next(two)) == ("1", "2")
    assert sorted(inbox.topic for inbox in kafka.inboxes) == ["llm.replies", "llm.replies.stream"]
    assert len({inbox.reply_key for inbox in kafka.inboxes}) == 1


def test_a_client_that_never_streams_does_not_read_the_pieces(client: Client, kafka: MemoryKafka) -> None:
    client.ask("Hello?")
    assert [inbox.topic for inbox in kafka.inboxes] == ["llm.replies"]


def test_a_piece_that_cannot_be_decoded_is_made_good_by_the_reply(client: Client, writer: Writer) -> None:
    stream = client.stream("How?")
    writer.piece(0, "Like", value=b"not avro")
    writer.reply("Like this.")
    assert "".join(stream) == "Like this."


def test_a_reader_of_pieces_that_breaks_leaves_the_reply(
    client: Client, kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(client.stream("so that the readers run"))

    def broken(timeout_s: float) -> None:
        raise OSError("the consumer is gone")

    [pieces] = [inbox for inbox in kafka.inboxes if inbox.streams]
    monkeypatch.setattr(pieces, "poll", broken)
    assert "".join(client.stream("Hello?")) == "Hello?"


def test_whoever_goes_on_after_a_restart_gets_the_new_text_from_its_beginning(client: Client, writer: Writer) -> None:
    stream = client.stream("How?")
    writer.piece(0, "I do not know")
    assert next(stream) == "I do not know"
    writer.piece(0, "Like", attempt=2)
    with pytest.raises(StreamRestarted):
        next(stream)
    writer.reply("Like this.")
    assert "".join(stream) == "Like this."


def test_an_error_reply_in_the_middle_is_typed_and_the_last(client: Client, kafka: MemoryKafka, writer: Writer) -> None:
    with client.stream("How?") as stream:
        writer.piece(0, "Like")
        assert next(stream) == "Like"
        writer.reply(code="cancelled")
        with pytest.raises(RequestCancelled, match="no luck"):
            next(stream)
        assert list(stream) == []
    assert stream.reply.error
    assert kafka.cancelled == []


def test_silence_is_a_timeout_and_left_to_the_deadline(client: Client, kafka: MemoryKafka) -> None:
    writer = Writer(kafka)
    with client.stream("How?", timeout_s=0.3) as stream:
        writer.piece(0, "Like")
        assert next(stream) == "Like"
        with pytest.raises(ReplyTimeout):
            next(stream)
    assert writer.request.deadline_ms
    client.cancel("so that whatever was cancelled before is known")
    assert kafka.cancelled == [("acme", "so that whatever was cancelled before is known")]


def test_a_wrong_request_is_refused_before_anything_is_published(client: Client, kafka: MemoryKafka) -> None:
    with pytest.raises(InvalidRequest, match="max_tokens"):
        client.stream("Hello?", max_tokens=-1)
    assert kafka.sent == []


# --- leaving ----------------------------------------------------------------------------------------------------


def test_leaving_a_stream_early_cancels_its_request(client: Client, kafka: MemoryKafka, writer: Writer) -> None:
    with client.stream("How?") as stream:
        writer.piece(0, "Like")
        assert next(stream) == "Like"
    eventually(lambda: kafka.cancelled == [("acme", stream.request_id)], "it is taken back")
    stream.close()
    assert list(stream) == []
    assert client.wait(10) == 0
    assert len(kafka.cancelled) == 1


def test_letting_go_of_a_stream_cancels_its_request(client: Client, kafka: MemoryKafka, writer: Writer) -> None:
    def first_piece() -> str:
        for piece in client.stream("How?", request_id="r1"):
            return piece
        return ""

    threading.Timer(0, lambda: (eventually(lambda: kafka.sent, "it is sent"), writer.piece(0, "Like"))).start()
    assert first_piece() == "Like"
    gc.collect()
    eventually(lambda: kafka.cancelled == [("acme", "r1")], "it is taken back")


def test_a_stream_that_was_read_to_its_end_cancels_nothing(client: Client, kafka: MemoryKafka) -> None:
    with client.stream("Hello?") as stream:
        assert list(stream) == ["Hello?"]
    client.cancel("another")
    assert kafka.cancelled == [("acme", "another")]


def test_closing_a_stream_ends_the_iteration_on_another_thread(client: Client, writer: Writer) -> None:
    stream = client.stream("How?")
    pieces: list[str] = []
    reading = threading.Thread(target=lambda: pieces.extend(stream))
    reading.start()
    writer.piece(0, "Like")
    eventually(lambda: pieces, "a piece comes")
    stream.close()
    reading.join(10)
    assert not reading.is_alive()
    assert pieces == ["Like"]


def test_ctrl_c_while_asking_cancels_the_request_before_the_client_is_gone(
    kafka: MemoryKafka, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka.answer = silence

    def interrupted(self: object, timeout: float | None = None) -> Reply:
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.Future.result", interrupted)
    with pytest.raises(KeyboardInterrupt), Client("acme", config=config) as client:
        client.ask("Hello?", request_id="r1")
    assert kafka.cancelled == [("acme", "r1")]


def test_closing_the_client_fails_its_streams(kafka: MemoryKafka, config: Config) -> None:
    kafka.answer = silence
    with Client("acme", config=config) as client:
        stream = client.stream("How?")
    with pytest.raises(ClientClosed):
        next(stream)
    assert list(stream) == []
    assert kafka.cancelled == []


# --- cancelling -------------------------------------------------------------------------------------------------


def test_a_cancellation_names_the_request_and_takes_one_of_few_keys(client: Client, kafka: MemoryKafka) -> None:
    client.cancel("r1")
    client.cancel("r1", tenant="globex")
    client.cancel("r1")
    assert kafka.cancelled == [("acme", "r1"), ("globex", "r1"), ("acme", "r1")]
    assert {sent.topic for sent in kafka.controls} == {"llm.control"}
    keys = [sent.key for sent in kafka.controls]
    assert keys[0] == keys[2]
    assert all(0 <= int(key.removeprefix(b"cancel/")) < 4096 for key in keys)
    assert kafka.inboxes == []


def test_a_cancelled_request_is_an_error_of_its_own_to_whoever_asked(client: Client, kafka: MemoryKafka) -> None:
    def cancelled(request: Request) -> list[Reply]:
        error = ReplyError(code="cancelled", message="taken back", retryable=False)
        return [make_reply(request_id=request.request_id, tenant=request.tenant, text="", error=error)]

    kafka.answer = cancelled
    with pytest.raises(RequestCancelled, match="taken back"):
        client.ask("Hello?")


@pytest.mark.parametrize(("request_id", "tenant", "field"), [("", "acme", "request_id"), ("r1", None, "tenant")])
def test_a_cancellation_of_nothing_in_particular_is_refused(
    kafka: MemoryKafka, config: Config, request_id: str, tenant: str | None, field: str
) -> None:
    with Client(tenant, config=config) as client, pytest.raises(InvalidRequest) as caught:
        client.cancel(request_id)
    assert caught.value.field == field
    assert kafka.controls == []


def test_a_cancellation_that_does_not_reach_the_brokers_is_told_by_flush(client: Client, kafka: MemoryKafka) -> None:
    kafka.delivery = "no leader"
    client.cancel("r1")
    with pytest.raises(BrokerUnavailable, match="cancel") as caught:
        client.flush()
    assert caught.value.request_ids == ("r1",)
