"""Records that the brokers refuse hold up others for a while, and not for ever."""

from forebay_workers.undeliverable import FORGET_S, PATIENCE_S, Undeliverable

GONE = {"gone": "unknown topic"}


def test_a_topic_has_time_to_appear() -> None:
    topics = Undeliverable()
    assert topics.refused(GONE, 100) == {}
    assert topics.refused(GONE, 100 + PATIENCE_S - 0.1) == {}
    assert topics.refused({**GONE, "other": "unknown topic"}, 100 + PATIENCE_S) == GONE


def test_one_that_stays_away_costs_the_patience_once() -> None:
    topics = Undeliverable()
    topics.refused(GONE, 100)
    topics.refused(GONE, 100 + PATIENCE_S)
    assert topics.refused(GONE, 100 + PATIENCE_S + FORGET_S) == GONE


def test_one_that_came_back_has_time_again() -> None:
    topics = Undeliverable()
    topics.refused(GONE, 100)
    topics.accepted(["other", "gone"])
    assert topics.refused(GONE, 100 + PATIENCE_S) == {}


def test_one_that_was_long_not_tried_has_time_again() -> None:
    topics = Undeliverable()
    topics.refused(GONE, 100)
    assert topics.refused(GONE, 101 + FORGET_S) == {}
