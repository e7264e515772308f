"""Topics that the brokers refuse hold up others for a while, and not for ever."""

from forebay_workers.undeliverable import LEFT_ALONE_S, PATIENCE_S, Undeliverable

WHY = "unknown topic"


def given_up_at(now_s: float) -> Undeliverable:
    topics = Undeliverable()
    topics.note("gone", WHY, now_s - PATIENCE_S)
    topics.note("gone", WHY, now_s)
    return topics


def test_a_topic_has_time_to_appear() -> None:
    topics = Undeliverable()
    topics.note("gone", WHY, 100)
    topics.note("gone", WHY, 100 + PATIENCE_S - 0.1)
    assert topics.given_up(100 + PATIENCE_S) == {}
    topics.note("gone", WHY, 100 + PATIENCE_S)
    topics.note("other", WHY, 100 + PATIENCE_S)
    assert topics.given_up(100 + PATIENCE_S) == {"gone": WHY}


def test_one_that_stays_away_costs_the_patience_once_and_is_tried_now_and_then() -> None:
    topics = given_up_at(100)
    assert topics.given_up(100 + LEFT_ALONE_S - 0.1) == {"gone": WHY}
    assert topics.given_up(100 + LEFT_ALONE_S) == {}
    topics.note("gone", WHY, 200)
    assert topics.given_up(200) == {"gone": WHY}


def test_one_that_came_back_has_time_again() -> None:
    topics = given_up_at(100)
    topics.accepted(["other", "gone"])
    topics.note("gone", WHY, 101)
    assert topics.given_up(101) == {}
