"""Commands to invalidate at the desk: applied, kept while Redis is away, acknowledged, and refused where unclear."""

from typing import Any

import pytest
from forebay_schemas.records import Event

from tests.builders import NOW_MS, make_request
from tests.jobs.doubles import CODEC, DeskRig, an_invalidation, events, only_task, statuses


@pytest.fixture
def rig() -> DeskRig:
    return DeskRig()


def outcomes(found: list[Event]) -> list[str]:
    return [event.attributes["outcome"] for event in found]


def test_an_invalidation_is_applied_and_acknowledged_under_its_id(rig: DeskRig) -> None:
    before = rig.answers.current(make_request())
    command = an_invalidation("llm.control/0/1", tenant="acme", id="one")
    (sent,) = rig.desk.invalidate(rig.state, command, rig.now_ms)
    assert (sent.topic, sent.key) == ("llm.events", b"one")
    assert CODEC.decode(sent.value, Event) == Event(
        event="invalidation",
        source="job",
        happened_ms=NOW_MS,
        attributes={
            "tenant": "acme", "id": "one", "issued_by": "ada", "issued_ms": str(NOW_MS), "outcome": "applied",
        },
    )  # fmt: skip
    assert rig.answers.current(make_request()) != before
    assert rig.state.empty


def test_a_command_that_is_read_again_is_acknowledged_again_and_changes_nothing(rig: DeskRig) -> None:
    rig.invalidate("llm.control/0/1", source="prices")
    after = dict(rig.answers.stored)
    assert outcomes(rig.invalidate("llm.control/0/1", source="prices")) == ["repeated"]
    assert rig.answers.stored == after
    assert outcomes(rig.invalidate("llm.control/0/2", source="prices")) == ["applied"]
    assert rig.answers.stored != after


def test_what_redis_cannot_take_waits_for_it_and_is_acknowledged_then(rig: DeskRig) -> None:
    rig.answers.away = True
    assert rig.invalidate("llm.control/0/1", source="prices", id="one") == []
    assert rig.invalidate("llm.control/0/2", tenant="acme", id="two") == []
    for _ in range(3):
        assert rig.tick(after_ms=2_000) == []
    rig.state = rig.state.copy()  # as after a restore
    rig.answers.away = False
    acknowledged = events(rig.tick(after_ms=2_000))
    assert [event.attributes["id"] for event in acknowledged] == ["one", "two"]
    assert outcomes(acknowledged) == ["applied", "applied"]
    assert {event.happened_ms for event in acknowledged} == {rig.now_ms}  # when it was so, not when it was asked for
    rig.forget_all()
    assert rig.state.empty


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "filters: are absent"),
        ({"id": "one"}, "filters: are absent"),
        ({"sources": "prices"}, "sources: is nothing to invalidate by"),
        ({"source": ""}, "source: is empty"),
        ({"source": "prices\n"}, "source: 'prices\\n' holds a control character"),
        ({"source": "prices", "category": "shop"}, "category: cannot narrow source"),
        ({"key": "0" * 32, "tenant": "acme"}, "key: names one answer"),
        ({"key": "prices"}, "key: is 'prices'; give the 32 hex digits"),
        ({"before_ms": "yesterday"}, "before_ms: is 'yesterday'; give milliseconds"),
        ({"before_ms": "-1"}, "before_ms: is '-1'"),
        ({"before_ms": str(NOW_MS + 3_600_000)}, "in the future"),
    ],
    ids=str,
)
def test_a_command_that_is_not_clear_is_refused_and_changes_nothing(
    rig: DeskRig, arguments: dict[str, str], problem: str
) -> None:
    (event,) = rig.invalidate("llm.control/0/1", **arguments)
    assert event.attributes["outcome"] == "refused"
    assert problem in event.attributes["problem"]
    assert rig.answers.stored == {}
    assert rig.metrics.invalidations.labels("refused")._value.get() == 1


def test_of_a_model_that_is_not_configured_nothing_is_known(rig: DeskRig) -> None:
    assert outcomes(rig.invalidate("llm.control/0/1", model="llama-3")) == ["unknown"]
    assert rig.answers.stored == {}


def test_what_a_refused_command_says_is_cut(rig: DeskRig) -> None:
    arguments: dict[str, Any] = {f"{number}" * 300: "x" * 100_000 for number in range(50)}
    (sent,) = rig.desk.invalidate(rig.state, an_invalidation("llm.control/0/1", **arguments), rig.now_ms)
    assert len(sent.value) < 20_000


def test_whoever_asks_after_an_invalidation_shares_no_generation_begun_before(rig: DeskRig) -> None:
    def ask(request_id: str) -> list[Any]:
        request = make_request(request_id=request_id)
        return rig.arrive(request, epochs=rig.answers.current(request))

    ask("leader")
    before = only_task(rig.tick())
    ask("follower")
    rig.invalidate("llm.control/0/1", tenant="acme")
    ask("after")
    after = only_task(rig.tick())
    assert after.reply_key == "key-after"
    assert statuses(rig.settle(before)) == {"follower": "joined"}  # who had asked before
    assert ask("late") == []  # nor does it get the answer that has just come
    (sent,) = rig.settle(after)
    assert statuses([sent]) == {"late": "joined"}
