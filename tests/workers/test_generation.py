"""What a model is asked: the tier's limits and the defaults, applied to the request."""

import json

import pytest
from forebay_schemas.records import CacheOptions, CacheScope, Lane, Message, Request
from forebay_schemas.tiers import TierConfig
from forebay_workers.backends import GenerationRequest
from forebay_workers.generation import generation_request, is_structured, once_more

from ..builders import make_request, system, user

TIER = TierConfig(complexity_up_to=1.0, model="model", max_tokens=100)


def asked(request: Request, **tier: object) -> GenerationRequest:
    return generation_request("task-1/0/1", request, TIER.model_copy(update=tier), Lane.INTERACTIVE)


def test_the_answer_is_as_long_as_the_request_and_the_tier_both_allow() -> None:
    assert asked(make_request()).max_tokens == 100
    assert asked(make_request(max_tokens=7)).max_tokens == 7
    assert asked(make_request(max_tokens=5000)).max_tokens == 100


def test_an_absent_temperature_asks_for_the_likeliest_answer() -> None:
    assert asked(make_request()).temperature == 0.0
    assert asked(make_request(temperature=0.7)).temperature == 0.7


def test_another_try_may_say_something_else() -> None:
    again = once_more(asked(make_request(seed=7)))
    assert again.temperature > 0
    assert again.seed is None
    assert once_more(asked(make_request(temperature=1.5))).temperature == 1.5


def test_the_stop_sequences_of_the_tier_come_beside_those_of_the_request() -> None:
    assert asked(make_request(stop=["END"]), stop=["\n\n"]).stop == ["END", "\n\n"]


def test_the_lane_is_the_tasks_and_the_priority_the_requests() -> None:
    batch = make_request(lane=Lane.BATCH, priority=3)
    request = generation_request("task-1/0/1", batch, TIER, Lane.INTERACTIVE)
    assert (request.generation_id, request.lane, request.priority) == ("task-1/0/1", Lane.INTERACTIVE, 3)


def test_a_request_is_its_tenants_unless_it_shares() -> None:
    assert asked(make_request(tenant="acme")).tenant == "acme"
    assert asked(make_request(tenant="acme", cache=CacheOptions(scope=CacheScope.USER))).tenant == "acme"
    assert asked(make_request(tenant="acme", cache=CacheOptions(scope=CacheScope.SHARED))).tenant is None


def test_the_static_turns_come_first_and_are_counted() -> None:
    request = asked(make_request("And in red?", static_messages=[system("You sell hats."), user("Do you sell hats?")]))
    assert [turn.content for turn in request.messages] == ["You sell hats.", "Do you sell hats?", "And in red?"]
    assert request.static_messages == 2


def test_without_static_turns_the_leading_system_prompts_are_what_stays_the_same() -> None:
    assert asked(make_request(messages=[system("You sell hats."), user("Red?")])).static_messages == 1
    assert asked(make_request()).static_messages == 0


def test_the_tiers_additions_follow_the_systems_prompt() -> None:
    request = make_request("Red?", static_messages=[system("You sell hats.")])
    tier = {"system_prompt": "Be kind.", "length_directive": "Answer in at most 60 words."}
    whole = asked(request, **tier)
    assert whole.messages == [system("You sell hats.\n\nBe kind.\n\nAnswer in at most 60 words."), user("Red?")]
    assert whole.static_messages == 1


@pytest.mark.parametrize("field", ["system_prompt", "length_directive"])
def test_the_tiers_addition_is_the_system_prompt_where_there_is_none(field: str) -> None:
    request = asked(make_request("Red?"), **{field: "Be brief."})
    assert request.messages == [system("Be brief."), user("Red?")]
    assert request.static_messages == 1


FRAMED = """\
Passages:

[1] Hats are red.

[2] Hats are warm.

Question: Are hats warm?"""


def test_passages_are_numbered_before_the_users_question_in_the_same_turn() -> None:
    earlier = [user("Hello"), Message(role="assistant", content="Hello!")]
    request = make_request(
        messages=[*earlier, user("Are hats warm?", name="ada")], passages=["Hats are red.", "Hats are warm."]
    )
    assert asked(request).messages == [*earlier, user(FRAMED, name="ada")]


def test_passages_join_the_users_last_turn_where_another_spoke_after() -> None:
    tool = Message(role="tool", content="12 degrees", tool_call_id="1")
    request = make_request(messages=[user("Are hats warm?"), tool], passages=["Hats are red.", "Hats are warm."])
    assert asked(request).messages == [user(FRAMED), tool]


def test_passages_are_a_turn_of_their_own_where_the_user_said_nothing() -> None:
    request = make_request(messages=[system("Sum up.")], passages=["Hats are red."])
    assert asked(request).messages == [system("Sum up."), user("Passages:\n\n[1] Hats are red.")]


def test_a_turn_that_takes_passages_no_longer_counts_as_static() -> None:
    tool = Message(role="tool", content="12 degrees", tool_call_id="1")
    request = make_request(
        static_messages=[system("You sell hats."), user("Are hats warm?")], messages=[tool], passages=["Hats are red."]
    )
    assert asked(request).static_messages == 1
    assert asked(request, system_prompt="Be brief.").static_messages == 1


def test_tools_and_formats_are_read_and_plain_text_is_no_format() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    tools = [{"type": "function", "function": {"name": "weather"}}]
    request = asked(make_request(tools=json.dumps(tools), response_format=json.dumps(form)))
    assert request.tools == tools
    assert request.response_format == form
    assert asked(make_request(response_format='{"type": "text"}')).response_format is None
    assert asked(make_request(tools="[]")).tools is None
    assert not request.must_call
    assert asked(make_request(tools=json.dumps(tools), tool_choice="required")).must_call


@pytest.mark.parametrize("unread", ["x", "{}", "[]"])
def test_what_cannot_be_read_is_no_format_that_an_answer_could_follow(unread: str) -> None:
    assert not is_structured(make_request(response_format=unread))
    assert is_structured(make_request(response_format='{"type": "json_object"}'))
