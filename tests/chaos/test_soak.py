"""What grew by more than it may is told from what did not."""

from .soak import Size, Slack, compared


def test_a_size_may_grow_by_its_slack_and_one_without_any_is_only_shown() -> None:
    slack = Slack(share=0.1, besides=5)
    before = {"memory": Size(100, slack), "keys": Size(3, Slack(0, 0)), "requests": Size(10)}
    within = {"memory": Size(115), "keys": Size(3), "requests": Size(1_000)}
    beyond = {"memory": Size(116), "keys": Size(4), "requests": Size(1_000)}
    assert [one.grew for one in compared(before, within)] == [False, False, False]
    assert [one.grew for one in compared(before, beyond)] == [True, True, False]


def test_what_is_bounded_otherwise_may_grow_up_to_that() -> None:
    before = {"held": Size(1, most=256)}
    assert [one.grew for one in compared(before, {"held": Size(300)}, {"held": Size(256)})] == [False]
    assert [one.grew for one in compared(before, {"held": Size(2)}, {"held": Size(257)})] == [True]
