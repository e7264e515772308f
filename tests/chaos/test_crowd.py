"""What callers at a rate are told is noted, and what says nothing to them is found."""

import threading
from urllib.parse import urlsplit

from ..provider import serving
from ..waiting import eventually
from .answers import answer
from .crowd import Call, Calls, Crowd, unclear


def test_calls_are_made_at_a_rate_whatever_becomes_of_those_before() -> None:
    held = threading.Event()

    def says(asked: str, _: str) -> str:
        if "reservoir 10000000000001 " in asked:
            return "the answer to another question"
        if "reservoir 10000000000002 " in asked:
            held.wait(30)
        return answer(asked)

    with serving(says) as url, Crowd(urlsplit(url).port or 0, 5.0, rate_per_s=50) as crowd:
        eventually(lambda: sum(one.right is not None for one in crowd.calls) >= 10, "others are answered meanwhile")
        assert crowd.calls[2].told == ""
        held.set()
        crowd.stop()
    assert [one.right for one in crowd.calls[:4]] == [True, False, True, True]
    calls = Calls("all", crowd.calls)
    assert len(calls.with_answer()) == len(calls.all)
    assert crowd.calls[2].took_ms >= calls.took_ms(0.99) > 0
    assert crowd.between("none", 0, crowd.calls[0].begun_ms).all == []


def test_who_finds_nobody_is_cut_off() -> None:
    with serving(lambda asked, _: asked) as url:
        port = urlsplit(url).port or 0
    with Crowd(port, 5.0, rate_per_s=50) as crowd:
        eventually(lambda: crowd.calls and crowd.calls[0].told, "the first call ends")
    assert {one.told for one in crowd.calls} == {"cut off"}


def test_only_an_answer_or_an_error_that_says_what_to_do_is_clear() -> None:
    told = ["200", "504 deadline_exceeded", "429 rate_limit_exceeded", "503 overloaded", "500 internal", "cut off", ""]
    assert unclear([Call(0, told=one) for one in told]) == ["500 internal", "cut off", "nothing"]
