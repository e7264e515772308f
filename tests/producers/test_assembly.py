"""Whatever happens to the pieces of an answer, together they are the text of its reply."""

from concurrent.futures import Future

import pytest
from forebay_client import Reply, ReplyTimeout, RequestFailed, StreamRestarted
from forebay_client.streams import Assembly
from forebay_schemas.records import Chunk, ReplyError
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import make_reply


def chunk(index: int, text: str, attempt: int = 1, last: bool = False) -> Chunk:
    return Chunk(request_id="request-1", tenant="acme", attempt=attempt, index=index, text=text, last=last)


def reply(text: str, error: ReplyError | None = None) -> Future[Reply]:
    future: Future[Reply] = Future()
    future.set_result(make_reply(text=text, error=error))
    return future


def feed(assembly: Assembly, *arrivals: Chunk | Future[Reply]) -> list[str]:
    """What is given after each arrival."""
    given = []
    for arrival in arrivals:
        assembly.receive(arrival)
        given.append(assembly.take())
    return given


def test_pieces_are_given_as_they_come_and_the_reply_adds_what_is_missing() -> None:
    assembly = Assembly()
    assert feed(assembly, chunk(0, "How"), chunk(1, " are"), reply("How are you?")) == ["How", " are", " you?"]
    assert assembly.ended
    assert assembly.reply
    assert assembly.reply.text == "How are you?"


def test_without_pieces_the_reply_is_one() -> None:
    assert feed(Assembly(), reply("How are you?")) == ["How are you?"]


def test_a_piece_that_comes_early_waits_for_those_before_it() -> None:
    given = feed(Assembly(), chunk(1, " are"), chunk(2, " you"), chunk(0, "How"), reply("How are you"))
    assert given == ["", "", "How are you", ""]


def test_a_piece_that_comes_again_is_given_once() -> None:
    given = feed(Assembly(), chunk(0, "ha"), chunk(0, "ha"), chunk(1, "ha"), chunk(0, "ha"), reply("haha"))
    assert given == ["ha", "", "ha", "", ""]


def test_a_piece_that_never_comes_is_made_good_by_the_reply() -> None:
    assert feed(Assembly(), chunk(0, "How"), chunk(2, " you"), reply("How are you?")) == ["How", "", " are you?"]


def test_a_new_attempt_that_says_the_same_goes_on_behind_it() -> None:
    assembly = Assembly()
    feed(assembly, chunk(0, "How"), chunk(1, " are"))
    again = [chunk(0, "Ho", 2), chunk(1, "w a", 2), chunk(2, "re you", 2), reply("How are you?")]
    assert feed(assembly, *again) == ["", "", " you", "?"]


def test_pieces_of_an_older_attempt_no_longer_count() -> None:
    assembly = Assembly()
    given = feed(assembly, chunk(0, "How", 2), chunk(1, " old", 1), chunk(0, "Old", 1), chunk(1, " are", 2))
    assert given == ["How", "", "", " are"]


def test_a_new_attempt_that_says_something_else_restarts_the_stream() -> None:
    assembly = Assembly()
    assert feed(assembly, chunk(0, "How are"), chunk(0, "How", 2)) == ["How are", ""]
    assembly.receive(chunk(1, "dy", 2))
    with pytest.raises(StreamRestarted):
        assembly.take()
    assert assembly.take() == "Howdy"
    assert feed(assembly, chunk(2, "!", 2), reply("Howdy!")) == ["!", ""]


def test_a_new_attempt_restarts_nothing_where_nothing_was_given() -> None:
    assert feed(Assembly(), chunk(1, "lost"), chunk(0, "How", 2), reply("How")) == ["", "How", ""]


@pytest.mark.parametrize(("final", "rest"), [("Howdy!", "Howdy!"), ("How", "How"), ("", "")])
def test_a_reply_that_says_something_else_restarts_the_stream(final: str, rest: str) -> None:
    assembly = Assembly()
    feed(assembly, chunk(0, "How are"))
    assembly.receive(reply(final))
    with pytest.raises(StreamRestarted):
        assembly.take()
    assert assembly.take() == rest
    assert assembly.take() == ""
    assert assembly.ended


def test_an_error_reply_ends_the_stream_where_it_is() -> None:
    assembly = Assembly()
    assert feed(assembly, chunk(0, "How are"), chunk(0, "How", 2)) == ["How are", ""]
    with pytest.raises(RequestFailed):
        assembly.receive(reply("", ReplyError(code="engine_failed", message="no luck", retryable=True)))
    assert assembly.ended
    assert assembly.take() == ""


def test_a_reply_that_does_not_come_ends_the_stream_where_it_is() -> None:
    assembly = Assembly()
    assert feed(assembly, chunk(0, "How")) == ["How"]
    overdue: Future[Reply] = Future()
    overdue.set_exception(ReplyTimeout("request-1", 1))
    with pytest.raises(ReplyTimeout):
        assembly.receive(overdue)
    assert assembly.ended
    assert assembly.take() == ""


@given(st.data())
def test_in_any_order_and_however_often_all_that_is_given_is_the_text_of_the_reply(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=3))
    arrivals: list[Chunk | Future[Reply]] = []
    for attempt, text in enumerate(texts):
        cut = data.draw(st.integers(1, len(text)))
        pieces = [text[start : start + cut] for start in range(0, len(text), cut)]
        arrivals += [chunk(index, piece, attempt) for index, piece in enumerate(pieces)]
    arrivals = data.draw(st.lists(st.sampled_from(arrivals), max_size=12))
    assembly, given = Assembly(), ""
    for arrival in [*arrivals, reply(texts[-1])]:
        assembly.receive(arrival)
        try:
            given += assembly.take()
        except StreamRestarted:
            given = assembly.take()
    assert given == texts[-1]
