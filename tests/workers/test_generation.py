"""What a model is asked: the tier's limits and the defaults, applied to the request."""

import json

from forebay_schemas.records import Request
from forebay_schemas.sections import TierConfig
from forebay_workers.backends import GenerationRequest
from forebay_workers.generation import generation_request

from ..builders import make_request, system, user

TIER = TierConfig(complexity_up_to=1.0, model="model", max_tokens=100)


def asked(request: Request, **tier: object) -> GenerationRequest:
    return generation_request("task-1", request, TIER.model_copy(update=tier))


def test_the_answer_is_as_long_as_the_request_and_the_tier_both_allow() -> None:
    assert asked(make_request()).max_tokens == 100
    assert asked(make_request(max_tokens=7)).max_tokens == 7
    assert asked(make_request(max_tokens=5000)).max_tokens == 100


def test_an_absent_temperature_asks_for_the_likeliest_answer() -> None:
    assert asked(make_request()).temperature == 0.0
    assert asked(make_request(temperature=0.7)).temperature == 0.7


def test_the_stop_sequences_of_the_tier_come_beside_those_of_the_request() -> None:
    assert asked(make_request(stop=["END"]), stop=["\n\n"]).stop == ["END", "\n\n"]


def test_the_static_turns_come_first() -> None:
    request = make_request("And in red?", static_messages=[system("You sell hats."), user("Do you sell hats?")])
    assert [turn.content for turn in asked(request).messages] == ["You sell hats.", "Do you sell hats?", "And in red?"]


def test_the_tiers_addition_follows_the_systems_prompt() -> None:
    request = make_request("Red?", static_messages=[system("You sell hats.")])
    messages = asked(request, system_prompt="Be brief.").messages
    assert messages == [system("You sell hats.\n\nBe brief."), user("Red?")]


def test_the_tiers_addition_is_the_system_prompt_where_there_is_none() -> None:
    assert asked(make_request("Red?"), system_prompt="Be brief.").messages == [system("Be brief."), user("Red?")]


def test_tools_and_formats_are_read_and_plain_text_is_no_format() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    tools = [{"type": "function", "function": {"name": "weather"}}]
    request = asked(make_request(tools=json.dumps(tools), response_format=json.dumps(form)))
    assert request.tools == tools
    assert request.response_format == form
    assert asked(make_request(response_format='{"type": "text"}')).response_format is None
    assert asked(make_request(tools="[]")).tools is None
