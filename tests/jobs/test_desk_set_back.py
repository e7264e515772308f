"""A job that was set back reads requests again: workers answer none twice, and nothing begun before counts as after."""

from collections.abc import Sequence

import pytest
from forebay_jobs.caches.epochs import Epochs
from forebay_jobs.messages import Outgoing
from forebay_schemas.records import CacheOptions, CachePolicy, Lane, ReplyError, Task
from pydantic import SecretStr

from tests.builders import make_request
from tests.jobs.doubles import (
    EPOCHS,
    DeskRig,
    MemoryState,
    cancelled_task,
    configured,
    is_task,
    only_task,
    reply_to,
    statuses,
)
from tests.jobs.in_process import Pipeline

REPLACED = EPOCHS | {"*": "2"}
BROKE = ReplyError(code="engine_failed", message="the engine broke", retryable=True)
REFUSED = ReplyError(code="engine_refused", message="no such schema", retryable=False)
CHANGES = [(EPOCHS, REPLACED), (EPOCHS, None), (None, EPOCHS)]
"""Of the epochs between two readings: an invalidation or a loss of Redis' memory, and Redis away at one of the two."""


SECRET = SecretStr("what no worker knows")


@pytest.fixture(params=[None, SECRET], ids=["", "secret"])
def rig(request: pytest.FixtureRequest) -> DeskRig:
    return DeskRig(configured(desk={"task_secret": request.param}))


def ask(rig: DeskRig, name: str, epochs: Epochs | None, lane: Lane = Lane.INTERACTIVE) -> None:
    request = make_request(request_id=name, lane=lane)
    assert rig.arrive(request, epochs=epochs, keep=epochs is not None) == []


def set_back(rig: DeskRig) -> None:
    """To before it had read anything."""
    rig.state, rig.desk = MemoryState(), rig.a_desk()


def outcome(rig: DeskRig, name: str) -> float:
    return rig.metrics.results.labels(name)._value.get()


@pytest.mark.parametrize(("before", "after"), CHANGES)
@pytest.mark.parametrize("lane", Lane)
def test_the_task_of_a_record_has_one_id_and_one_key_whatever_became_of_its_epochs(
    rig: DeskRig, before: Epochs | None, after: Epochs | None, lane: Lane
) -> None:
    ask(rig, "leader", before, lane=lane)
    (first,) = rig.tick()
    set_back(rig)
    ask(rig, "leader", after, lane=lane)
    (second,) = rig.tick()
    assert only_task([first]).task_id == only_task([second]).task_id
    assert (first.topic, first.key) == (second.topic, second.key)


@pytest.mark.parametrize(("before", "after"), CHANGES)
@pytest.mark.parametrize("result_first", [True, False])
@pytest.mark.parametrize("error", [None, BROKE, REFUSED])
def test_what_was_begun_at_an_earlier_reading_answers_its_leader_alone(
    rig: DeskRig, before: Epochs | None, after: Epochs | None, result_first: bool, error: ReplyError | None
) -> None:
    ask(rig, "leader", before)
    task = only_task(rig.tick())
    reply = reply_to(task, error=error)
    set_back(rig)
    if result_first:
        assert rig.settle(task, reply) == []
    ask(rig, "leader", after)
    ask(rig, "follower", after)
    sent = rig.tick()
    if not result_first:
        assert only_task(sent).task_id == task.task_id  # which workers pass over
        sent = rig.settle(task, reply)
    heir = only_task(sent)
    assert heir.reply_key == "key-follower"
    assert rig.answers.answers == {}
    assert outcome(rig, "earlier") == 1
    ask(rig, "late", after)
    assert statuses(rig.settle(heir)) == {"late": "joined"}
    assert len(rig.answers.answers) == (after is not None)
    rig.forget_all()
    assert rig.state.empty


def test_what_was_begun_under_the_same_epochs_counts_as_if_it_were_begun_now(rig: DeskRig) -> None:
    task = rig.lead()
    set_back(rig)
    rig.ask("leader")
    rig.ask("follower")
    rig.tick()
    assert statuses(rig.settle(task)) == {"follower": "joined"}
    assert len(rig.answers.answers) == 1


def test_a_leader_alone_that_was_answered_under_other_epochs_leaves_nothing(rig: DeskRig) -> None:
    task = rig.lead()
    set_back(rig)
    ask(rig, "leader", REPLACED)
    rig.tick()
    assert rig.settle(task) == []
    assert rig.settle(task) == []  # a result that is read twice
    rig.forget_all()
    assert rig.state.empty


def test_a_failure_that_invites_to_another_try_frees_the_id_under_other_epochs_too(rig: DeskRig) -> None:
    task = rig.lead()
    set_back(rig)
    ask(rig, "leader", REPLACED)
    rig.tick()
    rig.answers.seen["4:acme:leader"] = "requests/0/leader"
    rig.settle(task, reply_to(task, error=BROKE))
    assert rig.answers.seen == {}


def test_who_took_a_failed_leaders_place_has_the_same_task_where_it_leads_by_itself(rig: DeskRig) -> None:
    failed = rig.lead()
    rig.ask("heir")
    heir = only_task(rig.settle(failed, reply_to(failed, error=BROKE)))
    set_back(rig)
    ask(rig, "heir", REPLACED)  # which joins nobody, as its epochs were replaced meanwhile
    assert only_task(rig.tick()).task_id == heir.task_id


def test_a_flight_that_was_restored_takes_its_result_whatever_others_wait_under(rig: DeskRig) -> None:
    task = rig.lead()
    rig.ask("follower")
    ask(rig, "after", REPLACED)
    after = only_task(rig.tick())
    rig.desk = rig.a_desk()
    assert statuses(rig.settle(task)) == {"follower": "joined"}
    ask(rig, "late", REPLACED)
    assert statuses(rig.settle(after)) == {"late": "joined"}


def test_a_task_that_was_begun_under_other_epochs_is_taken_back_as_any(rig: DeskRig) -> None:
    task = rig.lead()
    set_back(rig)
    ask(rig, "leader", REPLACED)
    rig.tick()
    assert cancelled_task(rig.cancel("leader")) == task.task_id


@pytest.mark.parametrize(("secret", "worked_out"), [(None, True), (SECRET, False)])
def test_a_result_in_advance_answers_nobody_where_ids_follow_from_a_secret(
    secret: SecretStr | None, worked_out: bool
) -> None:
    forged = DeskRig().lead("coming")  # from all that is public
    rig = DeskRig(configured(desk={"task_secret": secret}))
    assert rig.settle(forged) == []
    rig.ask("coming")
    rig.ask("follower")
    sent = rig.tick()
    if worked_out:
        assert statuses(sent) == {"follower": "joined"}
    else:
        assert statuses(rig.settle(only_task(sent))) == {"follower": "joined"}
        assert list(rig.state.orphans) == [forged.task_id]


@pytest.mark.parametrize("change", ["invalidated", "away"])
def test_a_refresh_that_is_read_again_keeps_nothing_that_was_begun_before(change: str) -> None:
    """It shares its flight with nobody, but its answer is kept for others."""
    pipeline = Pipeline()
    request = make_request(cache=CacheOptions(policy=CachePolicy.REFRESH))
    before = _only(pipeline.ask(request))
    pipeline.restart()
    if change == "invalidated":
        pipeline.answers.stored["", "*"] = "2"
    pipeline.answers.away = change == "away"
    again = _only(pipeline.ask(request))
    assert again.task_id == before.task_id
    pipeline.answers.away = False
    pipeline.settle(before, reply_to(before))
    assert pipeline.answers.answers == {}


def _only(sent: Sequence[Outgoing]) -> Task:
    return only_task([one for one in sent if is_task(one)])
