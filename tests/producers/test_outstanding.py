"""Each awaited reply is settled once: by the reply, its time, a failure, or the end."""

import threading
from concurrent.futures import CancelledError

import pytest
from forebay_client.errors import BrokerUnavailable, ClientClosed, ReplyTimeout
from forebay_client.outstanding import Outstanding
from forebay_schemas.errors import InvalidRequest

from tests.builders import make_reply

KEY = ("acme", "request-1")
OTHER_TENANT = ("globex", "request-1")


@pytest.fixture
def table() -> Outstanding:
    return Outstanding()


def test_a_reply_reaches_its_own_waiter_and_a_repeat_reaches_nobody(table: Outstanding) -> None:
    mine, theirs = table.expect(KEY, 0, 10), table.expect(OTHER_TENANT, 0, 10)
    table.settle(KEY, make_reply(text="first"))
    table.settle(KEY, make_reply(text="second"))
    assert mine.result(0).text == "first"
    assert not theirs.done()
    assert not table.awaits(KEY)
    assert table.awaits(OTHER_TENANT)


def test_what_is_due_expires_and_the_rest_goes_on(table: Outstanding) -> None:
    soon, late = table.expect(KEY, 0, 5), table.expect(OTHER_TENANT, 0, 50)
    table.accepted(KEY)
    table.expire(4.9)
    assert not soon.done()
    table.expire(5.0)
    assert isinstance(soon.exception(0), ReplyTimeout)
    assert not late.done()
    table.expire(50.0)
    assert late.done()


def test_a_timeout_without_acknowledgement_blames_the_brokers(table: Outstanding) -> None:
    future = table.expect(KEY, 0, 5)
    table.expire(5)
    assert isinstance(future.exception(0), BrokerUnavailable)


def test_the_same_request_is_not_awaited_twice_at_once_but_again_after_its_end(table: Outstanding) -> None:
    table.expect(KEY, 0, 5)
    with pytest.raises(InvalidRequest, match="request_id"):
        table.expect(KEY, 0, 5)
    table.expire(5)
    table.settle(KEY, make_reply())
    again = table.expect(KEY, 6, 9)
    table.settle(KEY, make_reply())
    assert again.done()


def test_a_cancelled_wait_is_forgotten(table: Outstanding) -> None:
    future = table.expect(KEY, 0, 5)
    future.cancel()
    assert not table.awaits(KEY)
    assert table.wait(0) == 0
    table.settle(KEY, make_reply())
    with pytest.raises(CancelledError):
        future.result(0)


def test_closing_fails_what_is_awaited_and_refuses_what_comes(table: Outstanding) -> None:
    future = table.expect(KEY, 0, 5)
    table.close("the end")
    assert isinstance(future.exception(0), ClientClosed)
    with pytest.raises(ClientClosed, match="the end"):
        table.expect(KEY, 0, 5)


def test_waiting_ends_when_the_last_callback_has_run(table: Outstanding) -> None:
    seen: list[str] = []
    for number in range(20):
        future = table.expect(("acme", str(number)), 0, 5)
        future.add_done_callback(lambda future: seen.append(future.result().text))
    settling = threading.Thread(
        target=lambda: [table.settle(("acme", str(number)), make_reply()) for number in range(20)]
    )
    settling.start()
    assert table.wait(10) == 0
    assert len(seen) == 20
    settling.join()


def test_waiting_tells_what_is_missing(table: Outstanding) -> None:
    table.expect(KEY, 0, 5)
    assert table.wait(0.001) == 1


def test_a_callback_may_ask_again(table: Outstanding) -> None:
    table.expect(KEY, 0, 5).add_done_callback(lambda _: table.expect(KEY, 0, 5))
    table.settle(KEY, make_reply())
    assert table.awaits(KEY)
