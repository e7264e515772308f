"""Commands of the control topic: which of them concern the job, and that none can harm it."""

from typing import Any

import pytest
from forebay_jobs.control import Commands
from forebay_jobs.messages import Cancel, Invalidate
from forebay_schemas.config import load_config
from forebay_schemas.records import Control
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import NOW_MS, make_request
from tests.jobs.doubles import CODEC, MemoryAnswers


def command(command: str = "cancel", **arguments: str) -> bytes:
    return CODEC.encode(
        Control(key="cancel/1", command=command, issued_ms=NOW_MS, issued_by="test", arguments=arguments)
    )


class Rig:
    def __init__(self) -> None:
        self.answers = MemoryAnswers(load_config())
        self.take = Commands(CODEC, self.answers).take


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_request_that_is_taken_back_is_noted_and_told_to_the_desk(rig: Rig) -> None:
    cancel = rig.take(command(tenant="acme", request_id="request-1"), "llm.control/0/7")
    assert cancel == Cancel(tenant="acme", request_id="request-1", issued_ms=NOW_MS)
    assert rig.answers.look(make_request(), "0" * 32, "requests/0/1", read=True).cancelled


def test_an_invalidation_goes_to_the_desk_as_it_was_read(rig: Rig) -> None:
    value = command("invalidate", source="prices", id="one")
    first, again, later = (rig.take(value, f"llm.control/0/{offset}") for offset in (7, 7, 8))
    assert isinstance(first, Invalidate)
    assert (first.arguments, first.issued_ms, first.issued_by) == ({"source": "prices", "id": "one"}, NOW_MS, "test")
    assert isinstance(later, Invalidate)
    assert first == again
    assert first.name != later.name


@pytest.mark.parametrize(
    "arguments",
    [
        {"command": "cancel_task", "task_id": "task-1"},
        {"command": "rollout", "tenant": "acme", "request_id": "request-1"},
        {},
        {"tenant": "acme"},
        {"tenant": "acme", "request_id": ""},
    ],
    ids=str,
)
def test_commands_to_others_and_such_as_name_no_request_change_nothing(rig: Rig, arguments: dict[str, Any]) -> None:
    assert rig.take(command(**arguments), "llm.control/0/7") is None
    assert rig.answers.cancelled == {}


@given(value=st.binary(max_size=40) | st.just(CODEC.encode(make_request())))
def test_a_record_that_is_no_command_is_passed_over(value: bytes) -> None:
    assert Rig().take(value, "llm.control/0/7") is None
