"""What is repeated, what is lost, and what is wrong."""

import random
from collections import Counter

import pytest
from forebay_schemas.records import CacheStatus, Reply

from ..builders import make_reply, make_request
from .answers import answer, question, wording
from .checker import Asked, wrong
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


CHANCE = random.Random(0)
SALT, SALT_TOO = (wording("acme", ("salt", "wool"), CHANCE) for _ in range(2))
WINE, RIVALS = wording("acme", ("salt", "wine"), CHANCE), wording("rival", ("salt", "wool"), CHANCE)
PLAIN = question("acme", 1)
SOURCES = {"salt": SALT_TOO, "wine": WINE, "plain": PLAIN}


@pytest.mark.parametrize(
    ("asked", "category", "named", "text", "is_wrong"),
    [
        (SALT, "alike", "salt", answer(SALT_TOO), False),
        (SALT, "alike", "salt", answer(SALT), True),  # of another request than it names
        (SALT, "alike", "wine", answer(WINE), True),  # a neighbour, and not near
        (SALT, "alike", "rival", answer(RIVALS), True),
        (SALT, "alike", None, answer(SALT_TOO), True),
        (SALT, "alike", "unknown", answer(SALT_TOO), True),
        (SALT, "default", "salt", answer(SALT_TOO), True),  # which is reused exactly
        (SALT, None, "salt", answer(SALT_TOO), True),  # default, too
        (PLAIN, "default", "plain", answer(PLAIN), True),
        (PLAIN, "alike", "plain", answer(PLAIN), True),
    ],
)
def test_by_meaning_only_the_answer_to_the_same_in_other_words_is_right(
    asked: str, category: str | None, named: str | None, text: str, is_wrong: bool
) -> None:
    requests = {("acme", name): Asked(source) for name, source in SOURCES.items()}
    requests["rival", "rival"] = Asked(RIVALS)
    requests["acme", "asked"] = given = Asked()
    given.take(make_request(asked, category=category))
    given.take(make_reply(cache_status=CacheStatus.SEMANTIC, matched_request_id=named, text=text))
    assert wrong(("acme", "asked"), requests) is is_wrong


def test_of_a_request_whose_category_was_not_seen_the_question_tells() -> None:
    by_meaning = [
        make_reply(cache_status=CacheStatus.SEMANTIC, matched_request_id=name, text=answer(source))
        for name, source in SOURCES.items()
    ]
    requests = {("acme", name): Asked(source) for name, source in SOURCES.items()}
    asked = [Asked(SALT, committed=[reply]) for reply in by_meaning] + [Asked(PLAIN, committed=by_meaning[2:])]
    assert [wrong(("acme", "asked"), requests | {("acme", "asked"): one}) for one in asked] == [False, True, True, True]


@pytest.mark.parametrize("status", [CacheStatus.MISS, CacheStatus.BYPASS, CacheStatus.EXACT, CacheStatus.JOINED])
def test_every_other_answer_is_the_one_to_the_very_question(status: CacheStatus) -> None:
    own, others = (
        make_reply(cache_status=status, matched_request_id="salt", text=answer(of)) for of in (SALT, SALT_TOO)
    )
    known = Asked(SALT_TOO)
    for reply, is_wrong in ((own, False), (others, True)):
        asked = Asked(SALT, category="alike", committed=[reply])
        assert wrong(("acme", "asked"), {("acme", "asked"): asked, ("acme", "salt"): known}) is is_wrong


def test_a_client_may_be_handed_nothing_that_is_not_on_the_topic() -> None:
    asked = Asked(SALT, committed=[make_reply(text=answer(SALT))])
    for text, is_wrong in ((answer(SALT), False), (answer(WINE), True)):
        asked.handed = [Event("reply", "acme", "asked", text)]
        assert wrong(("acme", "asked"), {("acme", "asked"): asked}) is is_wrong
