"""Work that nobody waits for gives way to work that somebody waits for, and not for ever."""

import threading

from forebay_jobs.precedence import Precedence


def test_it_waits_for_what_is_under_way_and_for_nothing_else() -> None:
    precedence = Precedence()
    assert precedence.give_way(0)
    done: list[str] = []
    with precedence.first():
        other = threading.Thread(target=lambda: (precedence.give_way(60), done.append("other")))
        other.start()
        with precedence.first():  # two of them hinder each other in nothing
            assert not precedence.give_way(0)
        done.append("first")
    other.join(60)
    assert done == ["first", "other"]


def test_its_patience_ends() -> None:
    precedence = Precedence()
    with precedence.first():
        assert not precedence.give_way(0.01)
