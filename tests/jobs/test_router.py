"""The router: which tier a request goes to, and that no text is too much for it."""

import time
from pathlib import Path
from typing import Any

import pytest
from forebay_jobs.router.features import FEATURES, features_of
from forebay_jobs.router.router import Router
from forebay_schemas.categories import CategoryConfig
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ConfigError
from forebay_schemas.records import Message, Route
from forebay_schemas.sections import RouterConfig, TaskConfig
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import make_request, system, user

EASY = [
    "How do I return a parcel?",
    "What is the warranty period for a pump?",
    "Which payment methods do you accept?",
    "Do you ship to Switzerland?",
    "Is rain water from a barrel safe to drink?",
    "Who wrote Hamlet?",
    "What class of protection does the pump have?",
    "Are import duties charged?",
    "Can you make an exception to the returns policy?",
    "What is the function of the float switch?",
    "Define photosynthesis.",
    "Translate 'good morning' into French.",
]
MEDIUM = [
    "Compare plastic with wooden rain barrels and recommend one.",
    "Explain why the water of a pond turns green although the filter runs, and recommend what to do.",
    "Draft a friendly reply to a customer whose koi died, and explain why we recommend a test of the water.",
    "Write a Python function that calculates the power of a pump from flow and head.",
    "Summarise the pros and cons of a submersible pump and estimate its cost for a year.",
]
HARD = [
    "Design a koi pond of 8,000 litres: first calculate the flow of the filter, then choose a pump, next compare two UV"
    " clarifiers and finally estimate the cost of a year.",
    "Analyse the root cause of the outage step by step, compare three strategies to prevent it, then write a Python"
    " script that detects it, and justify the trade-offs; finally estimate the effort.",
    "Prove that the algorithm is optimal, derive its complexity, then optimise the implementation:\n```python\n"
    "def f(n):\n    return sum(range(n))\n```\nand finally compare it with two alternatives.",
]

CONFIG = load_config()
ROUTER = Router(CONFIG)


def routed(question: str, config: Config = CONFIG, **fields: Any) -> Route:
    return Router(config).route(make_request(question, **fields), None)


@pytest.mark.parametrize("question", EASY)
def test_a_plain_question_goes_to_the_small_tier(question: str) -> None:
    chosen = routed(question)
    assert (chosen.tier, chosen.reason) == ("small", "complexity")
    assert chosen.complexity < 0.3


@pytest.mark.parametrize("question", MEDIUM)
def test_a_question_with_two_signs_of_difficulty_goes_to_the_medium_tier(question: str) -> None:
    chosen = routed(question)
    assert chosen.tier == "medium"
    assert 0.3 <= chosen.complexity < 0.7


@pytest.mark.parametrize("question", HARD)
def test_an_analysis_in_several_steps_goes_to_the_large_tier(question: str) -> None:
    chosen = routed(question)
    assert chosen.tier == "large"
    assert chosen.complexity >= 0.7


@pytest.mark.parametrize(
    ("question", "feature"),
    [
        ("Fix this: `x = f()`", "code"),
        ("SELECT name FROM pumps WHERE id = 3", "code"),
        ("import os\nprint(os.getcwd())", "code"),
        ("It raises a NullPointerException, why?", "code"),
        ("What is 12 * 7?", "maths"),
        ("What is 20% of 50?", "maths"),
        ("1. Boil water\n2. Add tea\n3. Wait", "steps"),
        ("As I said above, make it shorter", "context"),
        ("Write a poem about rivers", "creative"),
        ("Analyse the contract", "analytical"),
        ("Give me the answer as JSON", "format"),
        ("Who wrote Hamlet?", "recognised"),
    ],
)
def test_a_sign_of_difficulty_is_seen(question: str, feature: str) -> None:
    assert features_of(make_request(question))[feature] > 0


def test_passages_count_by_their_length() -> None:
    none, some, many = (features_of(make_request(passages=["x" * 800] * count)) for count in (0, 1, 9))
    assert (none["context"], some["context"], many["context"]) == (0.0, 0.25, 0.5)
    assert (round(some["length"] - none["length"], 6), many["length"]) == (0.5, 1.0)


def test_length_and_earlier_turns_count_and_the_system_prompt_does_not() -> None:
    short = features_of(make_request("Why?", static_messages=[system("Be brief. " * 500)]))
    long = features_of(make_request(messages=[user("The story. " * 200), user("Why?")]))
    assert short["length"] < 0.01
    assert long["length"] == 1.0
    assert (short["context"], long["context"]) == (0.0, 0.15)


def test_thresholds_come_from_the_configuration() -> None:
    tiers = {
        "tiny": CONFIG.tiers["small"].model_copy(update={"complexity_up_to": 0.01}),
        "huge": CONFIG.tiers["large"],
    }
    assert routed("Who wrote Hamlet?", CONFIG.model_copy(update={"tiers": tiers})).tier == "huge"


def test_where_it_is_unsure_a_request_goes_one_tier_up() -> None:
    question = "Why does a rain barrel need a lid?"  # just below the threshold
    chosen = routed(question)
    assert (chosen.tier, chosen.reason) == ("medium", "low_confidence")
    assert chosen.complexity < 0.3
    assert chosen.confidence < 0.65
    bold = CONFIG.model_copy(update={"router": RouterConfig(min_confidence=0.0)})
    assert (routed(question, bold).tier, routed(question, bold).reason) == ("small", "complexity")


def test_where_it_is_unsure_of_the_largest_tier_there_is_none_above() -> None:
    cautious = CONFIG.model_copy(update={"router": RouterConfig(min_confidence=1.0)})
    assert [routed(question, cautious).tier for question in HARD] == ["large"] * 3


@pytest.mark.parametrize(
    ("bounds", "tier", "reason"),
    [
        ({"min_tier": "medium"}, "medium", "min_tier"),
        ({"min_tier": "small"}, "small", "complexity"),
        ({"max_tier": "small"}, "small", "complexity"),
        ({"min_tier": "large", "max_tier": "large"}, "large", "min_tier"),
        ({"min_tier": "no such tier"}, "small", "complexity"),
        ({"max_tier": "no such tier"}, "small", "complexity"),
    ],
)
def test_a_requests_bounds_hold(bounds: dict[str, Any], tier: str, reason: str) -> None:
    chosen = routed(EASY[0], **bounds)
    assert (chosen.tier, chosen.reason) == (tier, reason)


def test_a_hard_question_stays_within_its_upper_bound() -> None:
    chosen = routed(HARD[0], max_tier="small")
    assert (chosen.tier, chosen.reason) == ("small", "max_tier")
    assert chosen.complexity >= 0.7


def test_a_categorys_tier_comes_before_the_score_and_after_the_bounds() -> None:
    config = CONFIG.model_copy(update={"categories": {"forms": CategoryConfig(tier="medium")}})
    assert routed(HARD[0], config, category="forms").reason == "category"
    assert routed(HARD[0], config, category="forms").tier == "medium"
    assert routed(EASY[0], config, endpoint="forms", min_tier="large").tier == "large"
    assert routed(EASY[0], config, category="forms", max_tier="small").tier == "small"


@pytest.mark.parametrize("name", ["sentiment", "entity-extraction", "classification", "translation", "formatting"])
def test_a_task_known_to_be_fine_on_a_small_model_goes_there_whatever_is_asked(name: str) -> None:
    chosen = routed(HARD[0], category=name)
    assert (chosen.tier, chosen.reason) == ("small", "task")
    assert routed(HARD[0], endpoint=name).tier == "small"
    assert routed(HARD[0], category=name, min_tier="medium").tier == "medium"


def test_a_task_matches_all_that_it_names_and_comes_before_its_category() -> None:
    tasks = {"contracts": TaskConfig(endpoint="review", tenant="acme", tier="largest")}
    config = CONFIG.model_copy(
        update={
            "router": RouterConfig(tasks=tasks),
            "categories": {"review": CategoryConfig(tier="medium")},
        }
    )
    assert routed(EASY[0], config, endpoint="review").reason == "task"
    assert routed(EASY[0], config, endpoint="review").tier == "large"
    assert routed(EASY[0], config, endpoint="review", tenant="other").tier == "medium"
    assert routed(EASY[0], config, endpoint="review", max_tier="small").tier == "small"


def test_a_task_must_say_what_it_is_and_name_a_tier(tmp_path: Path) -> None:
    file = tmp_path / "forebay.toml"
    file.write_text('[router.tasks.empty]\ntier = "small"\n')
    with pytest.raises(ConfigError, match=r"router\.tasks\.empty.*give category, endpoint or tenant"):
        load_config(file)
    file.write_text('[router.tasks.huge]\ncategory = "x"\ntier = "huge"\n')
    with pytest.raises(
        ConfigError, match=r"router\.tasks\.huge\.tier: 'huge' is no tier; use one of small, medium, large"
    ):
        load_config(file)


@given(st.text(max_size=300), st.lists(st.sampled_from(EASY + HARD), max_size=3))
def test_features_score_and_confidence_lie_between_0_and_1_for_any_text(text: str, before: list[str]) -> None:
    request = make_request(messages=[*map(user, before), user(text)])
    assert features_of(request).keys() == set(FEATURES)
    chosen = ROUTER.route(request, None)
    assert all(0 <= value <= 1 for value in [*chosen.features.values(), chosen.complexity, chosen.confidence])


def test_a_last_turn_without_text_is_no_difficulty() -> None:
    request = make_request(messages=[user("Hi"), Message(role="assistant", tool_calls="[]")])
    assert ROUTER.route(request, None).tier == "small"


HOSTILE = [
    "A. ", "Not ", "a A", "1,",
    "a", "1", "\n", " ", "\n ", "1 ", "1.", "1%", "a(", "{", "{ ", "; ", "how many ", "- ", "\n1", "function a",
    "def a", "return a", "import a", "SELECT ", "evaluat", "_", "const a ", "at most 1", "\u00e9", "?", "(", "\n-",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_holds_the_router_up(piece: str) -> None:
    request = make_request(piece * (900_000 // len(piece)))
    started = time.process_time()
    for _ in range(5):
        features_of(request)
    assert time.process_time() - started < 1  # usually 5 ms; a pattern that goes astray takes minutes
