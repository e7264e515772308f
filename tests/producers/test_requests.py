"""What a service says becomes a valid request, or an error that names the field and the mend."""

import json
from typing import Any

import pytest
from forebay_client.requests import Question, build_request
from forebay_schemas.errors import InvalidRequest
from forebay_schemas.records import CacheOptions, CachePolicy, Lane, Message, Request

from tests.builders import NOW_MS, make_request, system, user


def build(question: Question | None = "Hello?", tenant: str | None = "acme", **fields: Any) -> Request:
    return build_request(question, fields, tenant=tenant, now_ms=NOW_MS)[0]


def test_a_question_becomes_the_users_turn_with_id_time_and_tenant() -> None:
    first, second = build("Hello?"), build("Hello?")
    assert first.messages == [user("Hello?")]
    assert (first.tenant, first.created_ms) == ("acme", NOW_MS)
    assert first.request_id != second.request_id


def test_turns_are_taken_as_openai_writes_them() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    turns = [
        user("Weather?"),
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "content": "7 C", "tool_call_id": "1"},
    ]
    request = build(turns)
    assert request.messages[0] == user("Weather?")
    assert json.loads(request.messages[1].tool_calls or "") == calls
    assert request.messages[2] == Message(role="tool", content="7 C", tool_call_id="1")


def test_a_finished_request_is_taken_as_it_is_but_for_the_fields_given_beside_it() -> None:
    request = make_request(category="support")
    assert build(request) == request
    assert build(request, category="chat", max_tokens=5).category == "chat"


def test_short_names_stand_for_the_records_fields() -> None:
    request = build(
        system="Be brief.",
        deadline_s=2.5,
        stop="END",
        lane="batch",
        tools=[{"type": "function"}],
        response_format={"type": "json_object"},
        cache={"policy": "refresh"},
        temperature=None,
    )
    assert request.static_messages == [system("Be brief.")]
    assert request.deadline_ms == NOW_MS + 2500
    assert request.stop == ["END"]
    assert request.lane is Lane.BATCH
    assert request.tools == '[{"type": "function"}]'
    assert request.response_format == '{"type": "json_object"}'
    assert request.cache == CacheOptions(policy=CachePolicy.REFRESH)


def test_context_and_order_of_work_can_be_said() -> None:
    request = build(passages=("Returns take 14 days.", "We ship on Mondays."), priority=5, stream=True)
    assert request.passages == ["Returns take 14 days.", "We ship on Mondays."]
    assert (request.priority, request.stream) == (5, True)


def test_the_trace_context_is_handed_back_apart() -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    assert build_request("Hello?", {"traceparent": trace}, tenant="acme", now_ms=NOW_MS)[1] == trace


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"max_token": 5}, "max_token"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"lane": "express"}, "lane"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "question"),
        ({"system": "a", "static_messages": [system("b")]}, "system"),
        ({"deadline_s": 1, "deadline_ms": NOW_MS}, "deadline_s"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"deadline_s": "soon"}, "deadline_s"),
        ({"tools": {"f": object()}}, "tools"),
        ({"cache": {"policy": "never"}}, "cache.policy"),
        ({"traceparent": "mine"}, "traceparent"),
        ({"passages": "one text"}, "passages"),
        ({"priority": "high"}, "priority"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build(**fields)
    assert caught.value.field == field
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    ("question", "tenant", "field"),
    [
        (None, "acme", "messages"),
        ("Hello?", None, "tenant"),
        ([{"role": "user", "content": ["parts"]}], "acme", "messages[0].content"),
        ([{"role": "user", "contents": "Hi"}], "acme", "messages[0]"),
        ([3], "acme", "messages[0]"),
    ],
)
def test_a_question_that_is_none_is_refused_by_name(question: Any, tenant: str | None, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build(question, tenant)
    assert caught.value.field == field
