"""A canary's answers stay in its arm: through both caches, joined flights, and flights in the air when it ends."""

import itertools

import msgspec
import pytest
from forebay_jobs.arms import Arms
from forebay_jobs.messages import Outgoing
from forebay_schemas.config import load_config
from forebay_schemas.errors import ErrorCode
from forebay_schemas.live_rollouts import MOST_LIVE
from forebay_schemas.records import CacheStatus, ReplyError, Request, Task
from forebay_schemas.rollouts import Rollout, Stage, Unit

from tests.builders import NOW_MS, make_request

from .doubles import DeskRig, MemoryState, an_asker, is_reply, is_task, reply_of, reply_to, task_of
from .in_process import Pipeline

ASKED, NEAR = "How do I return a parcel?", "How do I return a parcel, dear?"
BROKE = ReplyError(code=ErrorCode.ENGINE_FAILED, message="it broke", retryable=True)
TERSE = {"tiers.small.system_prompt": '"Be brief."'}


def rollout(stage: Stage = Stage.FIFTY, overrides: dict[str, str] | None = None, name: str = "terse") -> Rollout:
    return Rollout(
        name=name,
        version=1,
        overrides=TERSE if overrides is None else overrides,
        stage=stage,
        started_ms=NOW_MS,
        since_ms=NOW_MS,
        unit=Unit.USER,
    )


def users(taken: bool, one: Rollout | None = None) -> list[str]:
    """Users who are in a rollout, or are not."""
    one = one or rollout()
    return [name for number in range(60) if one.takes("acme", name := f"user-{number}") is taken]


IN, OUT = users(True), users(False)


_numbers = itertools.count()


def asked(user: str, words: str = ASKED) -> Request:
    return make_request(words, request_id=f"r{next(_numbers)}", user=user)


@pytest.fixture
def pipeline() -> Pipeline:
    pipeline = Pipeline()
    pipeline.arms.follow([rollout()])
    return pipeline


def only_task(sent: list[Outgoing]) -> Task:
    (task,) = (task_of(one) for one in sent if is_task(one))
    return task


@pytest.mark.parametrize(("first", "second"), [(IN, OUT), (OUT, IN)])
def test_neither_arm_gets_the_others_answers_from_a_cache_or_a_flight(
    pipeline: Pipeline, first: list[str], second: list[str]
) -> None:
    sent = pipeline.ask(asked(first[0]))
    beside = pipeline.ask(asked(second[0]))
    assert only_task(sent).flight_key != only_task(beside).flight_key
    pipeline.answer(sent)
    assert pipeline.how(asked(first[1])) is CacheStatus.EXACT
    assert pipeline.how(asked(first[1], NEAR)) is CacheStatus.SEMANTIC
    assert pipeline.how(asked(second[1])) is None  # it joined what its own arm has in the air
    assert pipeline.how(asked(second[1], NEAR)) is None


def test_task_and_replies_name_the_arm_and_the_task_carries_what_it_changes(pipeline: Pipeline) -> None:
    sent = pipeline.ask(asked(IN[0]))
    joined = pipeline.ask(asked(IN[1]))
    assert joined == []
    task = only_task(sent)
    assert (task.arm, task.overrides) == (f"terse@{NOW_MS}", TERSE)
    (followed,) = (reply_of(one) for one in pipeline.answer(sent) if is_reply(one))
    again = [reply_of(one) for one in pipeline.ask(asked(IN[2])) if is_reply(one)]
    assert {followed.arm, *(reply.arm for reply in again)} == {task.arm}
    plain = only_task(pipeline.ask(asked(OUT[0])))
    assert (plain.arm, plain.overrides) == (None, {})


def test_after_a_rollback_nothing_of_the_canary_is_given_and_what_is_in_the_air_fills_no_cache_of_others(
    pipeline: Pipeline,
) -> None:
    pipeline.answer(pipeline.ask(asked(IN[0])))
    other = "Can I pick up a parcel at a locker?"
    in_the_air = pipeline.ask(asked(IN[0], other))
    pipeline.arms.follow([rollout(Stage.ROLLED_BACK)])
    assert pipeline.how(asked(IN[1])) is None
    assert pipeline.how(asked(IN[2], NEAR)) is None
    pipeline.answer(in_the_air)
    assert pipeline.how(asked(IN[1], other)) is None


def test_a_follower_that_takes_the_lead_after_a_rollback_is_answered_by_the_configuration(pipeline: Pipeline) -> None:
    task = only_task(pipeline.ask(asked(IN[0])))
    assert pipeline.ask(asked(IN[1])) == []
    pipeline.arms.follow([])
    failed = msgspec.structs.replace(reply_to(task), text="", error=BROKE)
    (again,) = (task_of(one) for one in pipeline.settle(task, failed) if is_task(one))
    assert again.overrides == {}


def test_an_answer_that_is_not_by_all_of_the_arm_is_kept_for_nobody() -> None:
    rig = DeskRig()
    one, two = rollout(Stage.ALL), rollout(Stage.ALL, {"tiers.small.max_tokens": "7"}, "short")
    arm = f"{one.arm}+{two.arm}"
    kept: list[int] = []
    for known in ([], [two], [one, two]):  # the intake of another process may have read the topic before this desk
        rig.arms.follow(known)
        request = asked(IN[0], f"{ASKED} {len(known)}")
        rig.arrive(request, asker=an_asker(request, arm=arm))
        (task,) = map(task_of, rig.tick())
        rig.settle(task, reply_to(task))
        kept.append(len(rig.answers.answers))
    assert kept == [0, 0, 1]


def test_what_was_asked_of_the_configuration_before_the_arm_was_known_is_only_for_its_asker() -> None:
    request, follower = asked(IN[0]), asked(IN[1])
    rig, tasks = DeskRig(), list[Task]()
    for known in ([], [rollout(Stage.ALL)]):  # the second job was set back, and reads the request once more
        rig.state = MemoryState()
        rig.arms.follow(known)
        rig.arrive(request, asker=an_asker(request, arm=rollout().arm))
        tasks.append(only_task(rig.tick()))
    before, after = tasks
    assert after.task_id == before.task_id
    rig.arrive(follower, asker=an_asker(follower, arm=rollout().arm))
    heir = only_task(rig.settle(before, reply_to(before)))
    assert (heir.reply_key, heir.overrides) == (f"key-{follower.request_id}", TERSE)
    assert rig.answers.answers == {}


def test_what_is_asked_of_the_configuration_while_the_arm_is_not_known_is_for_all_who_wait() -> None:
    rig = DeskRig()
    request, follower = asked(IN[0]), asked(IN[1])
    rig.arrive(request, asker=an_asker(request, arm=rollout().arm))
    task = only_task(rig.tick())
    rig.arrive(follower, asker=an_asker(follower, arm=rollout().arm))
    assert list(map(reply_of, rig.settle(task))) != []
    assert rig.answers.answers == {}


def test_what_another_model_answered_in_place_of_the_arms_is_kept_for_nobody(pipeline: Pipeline) -> None:
    before = load_config().tiers["small"].model
    after = load_config().tiers["medium"].model
    pipeline.arms.follow([rollout(overrides={"tiers.small.model": f'"{after}"'})])
    for model, words, reused in ((before, ASKED, None), (after, "Is it here?", CacheStatus.EXACT)):
        task = only_task(pipeline.ask(asked(IN[0], words)))
        pipeline.settle(task, reply_to(task, tier="small", model_id=model))
        assert pipeline.how(asked(IN[1], words)) is reused


def test_a_request_that_is_read_again_after_a_rollback_has_the_canarys_answer_and_nobody_else_has(
    pipeline: Pipeline,
) -> None:
    request = asked(IN[0])
    before = only_task(pipeline.ask(request))
    pipeline.restart()  # a job without a checkpoint reads it once more
    pipeline.arms.follow([])
    pipeline.settle(before, reply_to(before))  # the result of the task that it wrote before
    assert pipeline.ask(request) == []
    assert pipeline.how(asked(IN[1])) is None


def test_the_result_of_a_canary_finds_the_request_that_was_read_again_after_its_rollback(pipeline: Pipeline) -> None:
    request = asked(IN[0])
    before = only_task(pipeline.ask(request))
    pipeline.restart()
    pipeline.arms.follow([])
    after = only_task(pipeline.ask(request))
    assert (after.task_id, after.bucket) == (before.task_id, before.bucket)
    follower = asked(IN[1])
    assert pipeline.ask(follower) == []
    heir = only_task(pipeline.settle(before, reply_to(before)))
    assert (heir.reply_key, heir.arm) == (follower.request_id, None)


def test_routing_and_reuse_follow_the_arm() -> None:
    pipeline = Pipeline()
    changed = {"categories.default.tier": '"large"', "categories.default.reuse": '"exact"'}
    pipeline.arms.follow([rollout(overrides=changed)])
    sent = pipeline.ask(asked(IN[0]))
    assert only_task(sent).route.tier == "large"
    pipeline.answer(sent)
    assert pipeline.how(asked(IN[1], NEAR)) is None
    sent = pipeline.ask(asked(OUT[0]))
    assert only_task(sent).route.tier == "small"
    pipeline.answer(sent)
    assert pipeline.how(asked(OUT[1], NEAR)) is CacheStatus.SEMANTIC


def test_a_policy_is_the_arms_and_learns_there_alone() -> None:
    pipeline = Pipeline()
    pipeline.arms.follow([rollout(overrides={"categories.default.similarity": "1.0"})])
    for user, reused in ((IN, None), (OUT, CacheStatus.SEMANTIC)):
        pipeline.answer(pipeline.ask(asked(user[0])))
        assert pipeline.how(asked(user[1], NEAR)) is reused


def test_a_request_may_be_in_several_rollouts_and_gets_what_all_of_them_change() -> None:
    arms = Arms(load_config())
    one, two = rollout(Stage.ALL), rollout(Stage.ALL, {"tiers.small.max_tokens": "7"}, "short")
    arms.follow([one, two])
    arm = arms.arm_of(asked("ada"))
    tier = arms.config(arm).tiers["small"]
    assert (tier.system_prompt, tier.max_tokens) == ("Be brief.", 7)
    arms.follow([one])
    assert arms.overrides(arm) == TERSE  # of the one that goes on


def test_an_arm_that_cannot_work_is_answered_by_the_configuration_alone() -> None:
    arms = Arms(load_config())
    # The second works only beside the first: alone, its answers would be gone before they are generated anew.
    first = rollout(Stage.ALL, {"categories.a.exact_ttl_s": "90000"}, "first")
    second = msgspec.structs.replace(
        rollout(Stage.ALL, {"categories.a.fresh_s": "89000"}, "second"), started_ms=NOW_MS + 1
    )
    arms.follow([first, second])
    assert arms.config(f"{first.arm}+{second.arm}").category("a").fresh_s == 89_000
    assert arms.config(second.arm) == load_config()
    assert arms.overrides(second.arm) == {}


def test_of_rollouts_that_do_not_go_together_those_that_were_started_first_hold() -> None:
    arms, user = Arms(load_config()), IN[0]
    later = msgspec.structs.replace(
        rollout(Stage.ALL, {"tiers.small.system_prompt": '"Be kind."'}, "kind"), started_ms=NOW_MS + 1
    )
    others = [
        msgspec.structs.replace(
            rollout(Stage.ALL, {f"categories.a{number}.tier": '"large"'}, f"a{number}"), started_ms=NOW_MS + number
        )
        for number in range(2, 2 + MOST_LIVE)
    ]
    arms.follow([*others, later, rollout()])
    assert arms.arm_of(asked(user)) == "+".join(one.arm for one in (rollout(), *others[: MOST_LIVE - 1]))


def test_over_one_that_answers_everybody_whoever_is_in_the_next_is_in_its_arm_alone(pipeline: Pipeline) -> None:
    first = rollout(Stage.ALL)
    second = rollout(Stage.FIFTY, {"tiers.small.system_prompt": '"Be kind."'}, "kind")
    second = msgspec.structs.replace(second, started_ms=NOW_MS + 1)
    in_second, beside = users(True, second)[0], users(False, second)[0]
    pipeline.arms.follow([first, second])
    for user, arm, prompt in ((in_second, second.arm, '"Be kind."'), (beside, first.arm, '"Be brief."')):
        task = only_task(pipeline.ask(asked(user)))
        assert (task.arm, task.overrides) == (arm, {"tiers.small.system_prompt": prompt})
    # At the end of its way all are in its arm, which stays the same where the first one is finished.
    at_the_end = msgspec.structs.replace(second, stage=Stage.ALL)
    for live in ([first, at_the_end], [at_the_end]):
        pipeline.arms.follow(live)
        assert {pipeline.arms.arm_of(asked(user)) for user in (in_second, beside)} == {second.arm}
    # And where it is rolled back, the first one holds again.
    pipeline.arms.follow([first, msgspec.structs.replace(second, stage=Stage.ROLLED_BACK)])
    assert pipeline.arms.arm_of(asked(in_second)) == first.arm


def test_a_rollout_that_does_not_fit_this_configuration_changes_nothing() -> None:
    arms = Arms(load_config())
    arms.follow([rollout(Stage.ALL, {"tiers.small.model": '"of a newer file"'}, "newer"), rollout(Stage.ALL)])
    assert arms.arm_of(asked("ada")) == f"terse@{NOW_MS}"
