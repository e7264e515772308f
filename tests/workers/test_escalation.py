"""An answer that is not good enough goes on, for a reason, to a tier that its request allows."""

import json
from pathlib import Path
from typing import Any

import pytest
from forebay_schemas.categories import EscalationConfig
from forebay_schemas.config import Config
from forebay_schemas.records import Hop, Usage
from forebay_workers.backends import Generation
from forebay_workers.escalation import escalations, generations, neighbour, reason_to_go_on, tier_above

from ..builders import make_request
from .doubles import configured

JSON_OBJECT = json.dumps({"type": "json_object"})


def reason(text: str = "Paris.", tokens: int = 10, request: dict[str, Any] | None = None, **given: Any) -> str | None:
    """The reason to go on from an answer; ``category`` names settings, the rest are fields of the answer."""
    category = EscalationConfig(**given.pop("category", {}))
    generation = Generation(
        **{
            "text": text,
            "finish_reason": "stop",
            "usage": Usage(completion_tokens=tokens),
            "model_id": "model",
            "confidence": 0.9,
            **given,
        }
    )
    return reason_to_go_on(generation, make_request(**request or {}), category)


def test_a_good_answer_stays() -> None:
    assert reason() is None


def test_doubtful_tokens_are_a_reason_and_the_category_says_which() -> None:
    assert reason(confidence=0.39) == "confidence"
    assert reason(confidence=0.4) is None
    assert reason(confidence=0.6, category={"min_confidence": 0.7}) == "confidence"
    assert reason(confidence=0.01, category={"min_confidence": 0}) is None


def test_a_model_that_does_not_tell_its_confidence_is_taken_for_confident() -> None:
    assert reason(confidence=None, category={"min_confidence": 1}) is None


def test_a_refusal_is_a_reason_unless_the_category_accepts_it() -> None:
    assert reason("I'm sorry, but I can't help with that.") == "refusal"
    assert reason("I'm sorry, but I can't help with that.", category={"on_refusal": False}) is None


def test_what_is_said_besides_a_call_of_a_tool_is_no_answer_to_be_judged() -> None:
    calls: dict[str, Any] = {"finish_reason": "tool_calls", "tool_calls": "[]"}
    assert reason("", request={"response_format": JSON_OBJECT}, **calls) is None
    assert reason("I cannot answer that without a look at the list.", **calls) is None
    assert reason("", **calls, confidence=0.1) == "confidence"


def test_an_answer_cut_off_by_the_tier_is_a_reason_where_the_category_says_so() -> None:
    assert reason(finish_reason="length", category={"on_cut_off": True}) == "cut_off"
    assert reason(finish_reason="length", request={"max_tokens": 50}, category={"on_cut_off": True}) == "cut_off"
    assert reason(finish_reason="length") is None


def test_an_answer_as_long_as_its_asker_wants_is_not_cut_off() -> None:
    asked = {"max_tokens": 10}
    assert reason(finish_reason="length", request=asked, category={"on_cut_off": True}) is None


def test_invalid_json_is_a_reason_that_comes_first() -> None:
    asked = {"response_format": JSON_OBJECT}
    assert reason("I'm sorry, but I can't.", confidence=0.1, request=asked) == "invalid_json"
    assert reason('{"city": "Par', finish_reason="length", request=asked) == "invalid_json"
    assert reason('{"city": "Paris"}', request=asked) is None


def test_json_as_long_as_its_asker_wants_need_not_be_complete() -> None:
    asked = {"response_format": JSON_OBJECT, "max_tokens": 10}
    assert reason('{"city": "Par', finish_reason="length", request=asked) is None
    assert reason('{"city": "Par', finish_reason="stop", request=asked) == "invalid_json"


SETTINGS = """
[models.served]
price = { input_per_1k = 0.001, output_per_1k = 0.002 }
backend = "synthetic"
[models.priced_only]
price = { input_per_1k = 0.001, output_per_1k = 0.002 }
[tiers.small]
complexity_up_to = 0.3
model = "served"
max_tokens = 100
[tiers.unserved]
complexity_up_to = 0.5
model = "priced_only"
max_tokens = 100
[tiers.medium]
complexity_up_to = 0.7
model = "served"
max_tokens = 100
[tiers.large]
complexity_up_to = 0.9
model = "served"
max_tokens = 100
[tiers.beyond]
complexity_up_to = 1.0
model = "priced_only"
max_tokens = 100
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(SETTINGS, tmp_path)


def hop(tier: str, reason: str = "unavailable") -> Hop:
    return Hop(tier=tier, model_id="served", reason=reason)


def test_up_is_the_next_tier_that_is_served(config: Config) -> None:
    assert tier_above("small", make_request(), [], config) == "medium"
    assert tier_above("medium", make_request(), [], config) == "large"
    assert tier_above("large", make_request(), [], config) is None


def test_up_is_never_above_what_the_request_allows(config: Config) -> None:
    assert tier_above("small", make_request(max_tier="small"), [], config) is None
    assert tier_above("small", make_request(max_tier="medium"), [], config) == "medium"


def test_a_bound_that_is_no_tier_any_more_bounds_nothing(config: Config) -> None:
    assert tier_above("small", make_request(max_tier="gone", min_tier="gone"), [], config) == "medium"


def test_a_tier_that_was_unavailable_is_passed_over(config: Config) -> None:
    assert tier_above("small", make_request(), [hop("medium")], config) == "large"
    assert tier_above("small", make_request(), [hop("medium", "confidence")], config) == "medium"


def test_the_neighbour_is_above_or_else_below(config: Config) -> None:
    assert neighbour("small", make_request(), [hop("small")], config) == "medium"
    assert neighbour("large", make_request(), [hop("large")], config) == "medium"
    assert neighbour("medium", make_request(max_tier="medium"), [hop("medium")], config) == "small"
    assert neighbour("large", make_request(min_tier="large"), [hop("large")], config) is None


def test_each_tier_is_found_unavailable_once(config: Config) -> None:
    tier: str | None = "medium"
    path: list[Hop] = []
    while tier is not None:
        path.append(hop(tier))
        tier = neighbour(tier, make_request(), path, config)
    assert [hop.tier for hop in path] == ["medium", "large", "small"]


def test_generations_and_escalations_are_counted_apart() -> None:
    path = [hop("small", "invalid_json"), hop("small", "invalid_json"), hop("medium"), hop("large", "refusal")]
    assert (generations(path), escalations(path)) == (3, 2)
