"""The deck and the checker: which reply is right to which request, and what is said of one that is not."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from forebay_ops.bench import checker
from forebay_ops.bench.checker import Checked, Checker, Expected
from forebay_ops.bench.deck import Deck, deck, number_in, request_id
from forebay_schemas.codec import Codec
from forebay_schemas.config import load_config
from forebay_schemas.records import CacheStatus, ReplyError, Request

from ..builders import make_reply, make_request

CODEC = Codec()
RUN = 3
DECK = deck([make_request("One?"), make_request("Two?")], ["first", "second"])


class Message:
    """A record as a consumer gives it."""

    def __init__(self, key: str, value: bytes) -> None:
        self._key, self._value = key.encode(), value

    def error(self) -> None: ...
    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return self._value


def reply(number: int, **fields: Any) -> Message:
    """The right reply to a request of the run, but for ``fields``."""
    name = request_id(RUN, number)
    right = {"request_id": name, "text": DECK.card(number).answer, "cache_status": CacheStatus.EXACT}
    return Message(name, CODEC.encode(make_reply(**right | fields)))


def checked(
    monkeypatch: pytest.MonkeyPatch, messages: Iterable[Message], count: int = 3, cards: Deck = DECK
) -> Checked:
    """What the checker says of a run of which these replies come."""
    left = iter(messages)

    class Consumer:
        def __init__(self, settings: dict[str, Any]) -> None: ...
        def assign(self, places: list[Any]) -> None: ...
        def poll(self, timeout_s: float) -> Message | None:
            return next(left, None)

    monkeypatch.setattr(checker, "Consumer", Consumer)
    monkeypatch.setattr(checker, "_QUIET_S", 0.01)
    expected = Expected(run=RUN, first=0, count=count, statuses=["exact"], silence_s=0.05)
    return Checker(load_config(), cards).check(expected)


def test_a_card_is_asked_under_any_id_and_says_the_same(tmp_path: Path) -> None:
    DECK.write(tmp_path / "deck")
    read = Deck.read(tmp_path / "deck")
    name = request_id(RUN, 5)
    asked = CODEC.decode(read.card(5).asked_as(name), Request)
    assert (asked.request_id, asked.messages[-1].content) == (name, "Two?")
    assert number_in(name.encode(), RUN) == 5
    assert number_in(name.encode(), RUN + 1) is number_in(None, RUN) is None


def test_right_replies_are_seen_once_each_in_whatever_order_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(monkeypatch, [reply(2), reply(0), Message("0" * 32, b"of another run"), reply(1)])
    assert (found.repeats, found.wrong, found.statuses) == (0, 0, {"exact": 3})
    assert 0 < found.seen_s[2] <= found.seen_s[0] <= found.seen_s[1]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": "second"}, "got 'second', not 'first'"),
        ({"request_id": "another"}, "got the reply to another"),
        ({"cache_status": CacheStatus.MISS}, "was answered by miss, not by exact"),
        ({"error": ReplyError(code="internal", message="no", retryable=False)}, "got an error: no"),
    ],
    ids=["text", "request", "status", "error"],
)
def test_a_reply_that_is_not_right_is_told(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], said: str) -> None:
    found = checked(monkeypatch, [reply(0, **fields), reply(1), reply(2)])
    assert (found.wrong, found.repeats) == (1, 0)
    assert said in found.example


def test_what_is_missing_and_what_comes_twice_do_not_make_up_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(monkeypatch, [reply(0), reply(1), reply(1)])
    assert (found.seen_s.count(0.0), found.repeats, found.wrong) == (1, 1, 0)


def test_what_is_to_be_echoed_must_come_back_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = deck([make_request("One?")], [None], echoed=True)
    names = [request_id(RUN, number) for number in range(2)]
    right, wrong = (Message(name, cards.card(0).asked_as(names[0])) for name in names)
    found = checked(monkeypatch, [right, wrong], count=2, cards=cards)
    assert (found.wrong, found.statuses) == (1, {})
    assert "came back changed" in found.example
