"""What is repeated, and what is lost."""

from collections import Counter

import pytest
from forebay_schemas.records import CacheStatus, Reply

from ..builders import make_reply
from .checker import Asked
from .publisher import Event

GENERATED = make_reply(cache_status=CacheStatus.MISS)


@pytest.mark.parametrize(
    ("replies", "results", "repeated"),
    [
        ([GENERATED], [], False),
        ([GENERATED, GENERATED], [], True),
        ([GENERATED, make_reply(cache_status=CacheStatus.EXACT)], [], False),  # the job's own, from its cache
        ([GENERATED, GENERATED], ["one", "one"], True),
        ([GENERATED, GENERATED], ["one", "other"], False),
        ([GENERATED, GENERATED, GENERATED], ["one", "other", "one"], True),
    ],
)
def test_each_task_may_be_answered_once(replies: list[Reply], results: list[str], repeated: bool) -> None:
    assert Asked(committed=replies, results=Counter(results)).repeated is repeated


HANDED = Event("reply", "acme", "request-1")


@pytest.mark.parametrize(
    ("asked", "lost"),
    [
        (Asked(sender="one", accepted=True, committed=[GENERATED], handed=[HANDED]), False),
        (Asked(sender="one", accepted=True, committed=[GENERATED]), True),  # its client was handed nothing
        (Asked(sender="killed", accepted=True, committed=[GENERATED]), False),
        (Asked(sender="killed", accepted=True), True),
        (Asked(accepted=True, committed=[GENERATED]), False),  # of one that the checker does not hear
        (Asked(sender="one"), True),
        (Asked(sender="one", refused="the topic is gone"), False),
        (Asked(sender="one", accepted=True, committed=[GENERATED], given_up="ClientClosed"), True),
        (Asked(sender="one", accepted=True, committed=[GENERATED], given_up="ReplyTimeout"), True),
        (Asked(sender="one", accepted=True, committed=[GENERATED], given_up="ReplyTimeout", deadline_ms=1), False),
    ],
)
def test_a_reply_that_is_owed_is_lost_unless_its_client_has_it_or_was_told(asked: Asked, lost: bool) -> None:
    assert asked.lost({"killed"}) is lost
