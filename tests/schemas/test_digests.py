"""Two requests have the same digest exactly when nothing differs that can change the answer."""

import json
import random
from typing import Any

import pytest
from forebay_schemas.canonical import canonical_text, digests, question_of
from forebay_schemas.config import load_config
from forebay_schemas.records import CacheOptions, CachePolicy, CacheScope, Lane, Message, Request
from forebay_schemas.validation import validate
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import make_request, system, user

from .strategies import changed, json_values, names, questions, requests, texts, turns

CONFIG = load_config()


def exact(request: Request) -> str:
    return digests(request).exact


# What counts


FULL = make_request(
    messages=[user("Hello."), Message(role="assistant", content="Hello, how can I help?"), user("Is it open?")],
    static_messages=[system("You are a clerk.")],
    user="ada",
    endpoint="chat",
    category="support",
    max_tokens=64,
    temperature=0.2,
    top_p=0.9,
    stop=["END"],
    seed=1,
    tools='[{"type": "function", "function": {"name": "stock"}}]',
    response_format='{"type": "json_object"}',
    cache=CacheOptions(sources=["hours"]),
    prompt_version="v1",
)

COUNTS: dict[str, list[Any]] = {
    "tenant": ["other", "acme "],
    "category": [None, "other"],
    "max_tokens": [None, 65],
    "temperature": [None, 0, 0.3],
    "top_p": [None, 1, 0.8],
    "stop": [[], ["end"], ["END", "STOP"]],
    "seed": [None, 0, -1],
    "tools": [None, "[]", '[{"type": "function", "function": {"name": "prices"}}]'],
    "tool_choice": ["required"],
    "response_format": [None, '{"type": "text"}'],
    "prompt_version": [None, "v2"],
    "passages": [["Open 9-17."], ["Open 9-18.", "Closed."], ["Closed.", "Open 9-18."]],
    "cache": [CacheOptions(), CacheOptions(sources=["prices"]), CacheOptions(sources=["hours", "prices"])],
    "static_messages": [[], [system("You are a nurse.")], [user("You are a clerk.")]],
    "messages": [
        [*FULL.messages[:2], user("Is it closed?")],
        [*FULL.messages[:2], user("Is it open?", name="ada")],
        [*FULL.messages[:2], system("Is it open?")],
        [user("Hi."), *FULL.messages[1:]],
        FULL.messages[1:],
        [FULL.messages[1], FULL.messages[0], FULL.messages[2]],
    ],
}


OTHER_VALUES = [(field, value) for field, values in COUNTS.items() for value in values]


@pytest.mark.parametrize(("field", "value"), OTHER_VALUES)
def test_a_field_that_counts_changes_the_digest(field: str, value: Any) -> None:
    assert exact(changed(FULL, **{field: value})) != exact(FULL)


def test_all_these_changes_lead_to_different_digests() -> None:
    variants = [changed(FULL, **{field: value}) for field, value in OTHER_VALUES]

    assert len({exact(variant) for variant in variants}) == len(variants)


@given(requests, requests, st.sets(st.sampled_from(Request.__struct_fields__), max_size=3))
def test_the_digest_is_equal_exactly_when_what_counts_is(one: Request, donor: Request, fields: set[str]) -> None:
    other = changed(one, **{field: getattr(donor, field) for field in fields})

    assert (exact(one) == exact(other)) == (what_counts(one) == what_counts(other))


def what_counts(request: Request) -> Any:
    """The table of docs/equality.md, once more and without a digest."""
    scope = request.cache.scope
    return (
        scope,
        request.tenant if scope != CacheScope.SHARED else None,
        request.user if scope == CacheScope.USER else None,
        request.category or request.endpoint or "default",
        request.prompt_version,
        set(request.cache.sources),
        (request.max_tokens, request.temperature, request.top_p, request.seed),
        set(request.stop),
        [json.dumps(text and json.loads(text)) for text in (request.tools, request.response_format)],
        [
            (turn.role, turn.content and canonical_text(turn.content), turn.name, turn.tool_calls, turn.tool_call_id)
            for turn in [*request.static_messages, *request.messages]
        ],
        [canonical_text(passage) for passage in request.passages],
        request.tool_choice,
    )


@given(texts, texts, st.integers(0, 40))
def test_text_moved_into_the_neighbouring_turn_counts(first: str, second: str, cut: int) -> None:
    both = first + second
    here = [user(f"<{part}>") for part in (first, second)]
    there = [user(f"<{part}>") for part in (both[:cut], both[cut:])]

    assert (exact(make_request(messages=here)) == exact(make_request(messages=there))) == (
        what_counts(make_request(messages=here)) == what_counts(make_request(messages=there))
    )


def test_a_field_moved_into_its_neighbour_counts() -> None:
    variants = [
        make_request(user="a", category="b"),
        make_request(category="a", prompt_version="b"),
        make_request(category="ab"),
        make_request(category="a,b"),
        make_request(messages=[Message(role="user", content="a", name="b")]),
        make_request(messages=[Message(role="user", content="a", tool_call_id="b")]),
        make_request(messages=[Message(role="user", content='a","b')]),
        make_request(messages=[Message(role="assistant", content=""), user("a")]),
        make_request(messages=[Message(role="assistant", tool_calls="[]"), user("a")]),
        make_request(stop=["a", "b"]),
        make_request(stop=["a,b"]),
        make_request(stop=["b"], cache=CacheOptions(sources=["a"])),
        make_request(cache=CacheOptions(sources=["a", "b"])),
        make_request(max_tokens=1),
        make_request(seed=1),
        make_request(temperature=1),
        make_request(top_p=1),
    ]

    assert len({exact(variant) for variant in variants}) == len(variants)


@pytest.mark.parametrize(
    ("one", "other"), [("1", "1.0"), ("1", "true"), ("0", "false"), ("null", '"null"'), ("1", '"1"')]
)
def test_json_values_of_different_types_differ(one: str, other: str) -> None:
    def with_value(value: str) -> Request:
        return changed(FULL, tools=f'[{{"value": {value}}}]')

    assert exact(with_value(one)) != exact(with_value(other))


# Scope


def test_tenants_share_an_answer_only_where_both_say_shared() -> None:
    def asked(tenant: str, scope: CacheScope) -> Request:
        return make_request(tenant=tenant, user="ada", cache=CacheOptions(scope=scope))

    assert exact(asked("a", CacheScope.SHARED)) == exact(asked("b", CacheScope.SHARED))
    assert exact(asked("a", CacheScope.SHARED)) != exact(asked("b", CacheScope.TENANT))
    assert exact(asked("a", CacheScope.TENANT)) != exact(asked("b", CacheScope.TENANT))
    assert exact(asked("a", CacheScope.USER)) != exact(asked("b", CacheScope.USER))


def test_users_of_a_tenant_share_an_answer_unless_the_scope_is_user() -> None:
    def asked(name: str, scope: CacheScope) -> Request:
        return make_request(user=name, cache=CacheOptions(scope=scope))

    assert exact(asked("ada", CacheScope.TENANT)) == exact(asked("bob", CacheScope.TENANT))
    assert exact(asked("ada", CacheScope.USER)) != exact(asked("bob", CacheScope.USER))
    assert exact(asked("ada", CacheScope.USER)) != exact(asked("ada", CacheScope.TENANT))


# What does not count


DOES_NOT_COUNT: dict[str, list[Any]] = {
    "request_id": ["another"],
    "created_ms": [1],
    "deadline_ms": [2**40],
    "lane": [Lane.BATCH],
    "endpoint": ["another"],  # the category is given
    "user": [None],  # the scope is tenant
    "min_tier": ["medium"],
    "max_tier": ["medium"],
    "metadata": [{"row": "1"}],
    "stream": [True],
    "priority": [7],
    "stop": [["END", "END"]],
    "cache": [
        CacheOptions(policy=CachePolicy.REFRESH, sources=["hours"]),
        CacheOptions(ttl_s=5, sources=["hours", "hours"]),
    ],
    "tools": ['[ {"type":"function" ,"function":{"name":"st\\u006fck"}}]'],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in DOES_NOT_COUNT.items() for value in values]
)
def test_a_field_that_does_not_count_leaves_every_digest(field: str, value: Any) -> None:
    assert digests(changed(FULL, **{field: value})) == digests(FULL)


def test_the_category_is_the_endpoint_where_none_is_given_and_then_default() -> None:
    assert exact(make_request(endpoint="chat")) == exact(make_request(category="chat"))
    assert exact(make_request()) == exact(make_request(category="default"))
    assert exact(make_request(endpoint="chat")) != exact(make_request())


@given(requests, st.integers(0, 5))
def test_where_the_static_turns_end_does_not_count_for_equality(request: Request, cut: int) -> None:
    messages = [*request.static_messages, *request.messages]
    cut = min(cut, len(messages) - 1)
    moved = changed(request, static_messages=messages[:cut], messages=messages[cut:])

    assert exact(moved) == exact(request)
    assert digests(moved).context == digests(request).context


@given(st.lists(names, max_size=4, unique=True), st.randoms(use_true_random=False))
def test_the_order_of_sources_and_stop_sequences_does_not_count(parts: list[str], shuffler: random.Random) -> None:
    shuffled = shuffler.sample(parts, len(parts))

    one = make_request(stop=parts, cache=CacheOptions(sources=parts))
    assert exact(one) == exact(make_request(stop=shuffled, cache=CacheOptions(sources=shuffled)))


@given(st.dictionaries(texts, json_values, max_size=5))
def test_spacing_and_escapes_of_json_do_not_count(value: dict[str, Any]) -> None:
    form = {"type": "json_object", "x": value}

    assert exact(make_request(tools=json.dumps([value]), response_format=json.dumps(form))) == exact(
        make_request(
            tools=json.dumps([value], indent=3, ensure_ascii=False),
            response_format=json.dumps(form, separators=(",", ":")),
        )
    )


def test_the_order_of_keys_counts_because_models_write_in_that_order() -> None:
    one, other = ('{"type": "json_object", "a": 1, "b": 2}', '{"type": "json_object", "b": 2, "a": 1}')
    assert exact(make_request(response_format=one)) != exact(make_request(response_format=other))


def test_a_negative_zero_asks_for_zero() -> None:
    assert exact(make_request(temperature=-0.0)) == exact(make_request(temperature=0))


# The three digests


@pytest.mark.parametrize(("field", "value"), OTHER_VALUES)
def test_the_context_changes_with_all_but_the_last_question(field: str, value: Any) -> None:
    same = value == [*FULL.messages[:2], user("Is it closed?")]

    assert (digests(changed(FULL, **{field: value})).context == digests(FULL).context) == same


def test_the_name_of_the_asking_user_belongs_to_the_context() -> None:
    assert digests(make_request(messages=[user("a", name="x")])).context != digests(make_request("a")).context


@given(requests, questions)
def test_another_last_question_has_the_same_context(request: Request, question: str) -> None:
    asked = changed(request, messages=[*request.messages[:-1], user(question)])

    assert digests(asked).context == digests(request).context
    assert digests(asked).prefix == digests(request).prefix or not request.static_messages


@pytest.mark.parametrize("role", ["assistant", "system", "tool"])
def test_without_a_last_user_turn_nothing_is_compared_by_meaning(role: str) -> None:
    request = make_request(messages=[user("a"), Message(role=role, content="b")])

    assert digests(request).context is None
    assert question_of(request) is None


def test_the_question_is_the_last_user_turn_in_canonical_form() -> None:
    assert question_of(make_request("  Is it   open? ")) == "Is it open?"


def test_the_prefix_is_that_of_the_static_turns() -> None:
    prompt = [system("You are a clerk.")]
    one, other = (digests(make_request(text, static_messages=prompt)) for text in ("a", "b"))

    assert one.prefix == other.prefix
    assert digests(make_request("a", static_messages=[system("You are a nurse.")])).prefix != one.prefix
    assert digests(make_request("a")).prefix is None


def test_leading_system_turns_are_the_prefix_where_no_turn_is_static() -> None:
    prompt = [system("You are a clerk."), Message(role="developer", content="Be brief.")]

    apart = digests(make_request(static_messages=prompt))
    together = digests(make_request(messages=[*prompt, user("How do I return a parcel?")]))
    assert apart == together


def test_the_three_digests_of_a_request_differ() -> None:
    found = digests(FULL)

    assert len({found.exact, found.context, found.prefix}) == 3
    assert all(len(digest or "") == 32 for digest in (found.exact, found.context, found.prefix))


def test_digests_are_the_same_in_every_process() -> None:
    """A change here empties every cache: raise CANONICAL_VERSION, and then this."""
    assert exact(make_request()) == "0a53d35ca5bf2ed19163ef21305fab68"


@given(requests)
def test_digests_of_a_valid_request_never_raise(request: Request) -> None:
    validate(request, CONFIG)

    assert digests(request) == digests(request)


@given(st.lists(turns, min_size=1, max_size=3))
def test_digests_tell_turns_apart(messages: list[Message]) -> None:
    twice = changed(FULL, messages=[*messages, messages[-1]])

    assert exact(twice) != exact(changed(FULL, messages=messages))
