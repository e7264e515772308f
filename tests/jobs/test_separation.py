"""What keeps answers apart, through intake, desk and both caches: equal words in another context share nothing."""

from typing import Any

import pytest
from forebay_jobs.reuse.recogniser import Recogniser
from forebay_schemas.records import CacheOptions, CacheScope, CacheStatus, Message, Request

from tests.builders import make_request, system, user
from tests.jobs.doubles import is_task, task_of
from tests.jobs.in_process import Pipeline

ASKED, NEAR = "How do I return a parcel?", "How do I return a parcel, dear?"
TOOLS = '[{"type": "function", "function": {"name": "stock"}}]'

BASE: dict[str, Any] = {
    "static_messages": [system("You are a clerk.")],
    "user": "ada",
    "max_tokens": 64,
    "temperature": 0.2,
    "cache": CacheOptions(sources=["terms"]),
    "prompt_version": "v1",
}
OTHER_CONTEXTS: dict[str, dict[str, Any]] = {
    "system prompt": {"static_messages": [system("You are a lawyer.")]},
    "no system prompt": {"static_messages": []},
    "earlier turns": {"messages": [user("Hello."), Message(role="assistant", content="Hello!"), user(NEAR)]},
    "name of the asker": {"messages": [user(NEAR, name="bob")]},
    "max_tokens": {"max_tokens": 65},
    "temperature": {"temperature": 0.3},
    "top_p": {"top_p": 0.9},
    "stop": {"stop": ["END"]},
    "seed": {"seed": 7},
    "response format": {"response_format": '{"type": "json_object"}'},
    "tools": {"tools": TOOLS},
    "passages": {"passages": ["Returns take 14 days."]},
    "category": {"category": "sales"},
    "endpoint": {"endpoint": "sales"},
    "prompt version": {"prompt_version": "v2"},
    "sources": {"cache": CacheOptions(sources=["terms", "prices"])},
    "no sources": {"cache": CacheOptions()},
    "tenant": {"tenant": "rival"},
    "scope user": {"cache": CacheOptions(sources=["terms"], scope=CacheScope.USER)},
    "scope shared": {"cache": CacheOptions(sources=["terms"], scope=CacheScope.SHARED)},
}
SAME_CONTEXT: dict[str, dict[str, Any]] = {
    "user": {"user": "bob"},
    "metadata": {"metadata": {"page": "3"}},
    "priority": {"priority": 5},
    "where static turns end": {"static_messages": [], "messages": [system("You are a clerk."), user(NEAR)]},
}


def variant(question: str, request_id: str, fields: dict[str, Any]) -> Request:
    """The request of ``BASE`` with some fields changed; its last turn asks the question."""
    changed = BASE | {"request_id": request_id} | fields
    if "messages" in fields:
        *before, last = fields["messages"]
        changed["messages"] = [*before, Message(role="user", content=question, name=last.name)]
    return make_request(question, **changed)


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


@pytest.mark.parametrize("fields", OTHER_CONTEXTS.values(), ids=OTHER_CONTEXTS)
def test_another_context_gets_nothing_from_either_cache_nor_from_a_flight(
    pipeline: Pipeline, fields: dict[str, Any]
) -> None:
    sent = pipeline.ask(variant(ASKED, "first", {}))
    (task,) = pipeline.ask(variant(ASKED, "beside it", fields))
    assert is_task(task)  # its own, it did not join
    pipeline.answer(sent)
    assert pipeline.how(variant(ASKED, "equal", fields)) is None
    assert pipeline.how(variant(NEAR, "near", fields)) is None


@pytest.mark.parametrize("fields", SAME_CONTEXT.values(), ids=SAME_CONTEXT)
def test_what_is_no_context_keeps_nothing_apart(pipeline: Pipeline, fields: dict[str, Any]) -> None:
    sent = pipeline.ask(variant(ASKED, "first", {}))
    assert pipeline.ask(variant(ASKED, "joins", fields)) == []
    assert len(pipeline.answer(sent)) == 1
    assert pipeline.how(variant(ASKED, "equal", fields)) is CacheStatus.EXACT
    assert pipeline.how(variant(NEAR, "near", fields)) is CacheStatus.SEMANTIC


@pytest.mark.parametrize("question", [ASKED, NEAR])
@pytest.mark.parametrize(
    ("scope", "tenant", "name", "shared"),
    [
        (CacheScope.SHARED, "rival", "bob", True),
        (CacheScope.TENANT, "rival", "ada", False),
        (CacheScope.TENANT, "acme", "bob", True),
        (CacheScope.USER, "acme", "ada", True),
        (CacheScope.USER, "acme", "bob", False),
        (CacheScope.USER, "rival", "ada", False),
    ],
)
def test_an_answer_reaches_as_far_as_the_scope_that_both_name(
    pipeline: Pipeline, scope: CacheScope, tenant: str, name: str, shared: bool, question: str
) -> None:
    pipeline.answer(pipeline.ask(variant(ASKED, "first", {"cache": CacheOptions(scope=scope)})))
    asked = variant(question, "second", {"cache": CacheOptions(scope=scope), "tenant": tenant, "user": name})
    assert (pipeline.how(asked) is not None) is shared


@pytest.mark.parametrize("other", [CacheScope.TENANT, CacheScope.USER])
def test_one_tenants_wish_to_share_is_not_the_others(pipeline: Pipeline, other: CacheScope) -> None:
    pipeline.answer(pipeline.ask(variant(ASKED, "first", {"cache": CacheOptions(scope=CacheScope.SHARED)})))
    assert pipeline.how(variant(ASKED, "mine", {"cache": CacheOptions(scope=other)})) is None
    pipeline.answer(pipeline.ask(variant(ASKED, "kept", {"cache": CacheOptions(scope=other), "tenant": "rival"})))
    asked = variant(NEAR, "theirs", {"cache": CacheOptions(scope=CacheScope.SHARED), "tenant": "third"})
    assert pipeline.how(asked) is CacheStatus.SEMANTIC  # the shared one's, whoever asks near to both


@pytest.mark.parametrize("question", ["Is it raining in Oslo?", "Where is my parcel?"])
def test_what_depends_on_time_or_user_is_neither_served_nor_stored(pipeline: Pipeline, question: str) -> None:
    pipeline.answer(pipeline.ask(variant(question, "first", {})))
    assert pipeline.how(variant(question, "second", {})) is None
    assert pipeline.answers.answers == {}


def test_what_only_its_meaning_shows_to_be_time_sensitive_is_neither_served_nor_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_z = [float(letter == "z") for letter in "abcdefghijklmnopqrstuvwxyz"]  # as LetterEmbedder sees them
    buzzing = Recogniser(models=[], weights=of_z, bias=0, least=0.5, source="this test")
    monkeypatch.setattr("forebay_jobs.caches.semantic.shipped_recogniser", lambda version: buzzing)
    pipeline = Pipeline()
    sent = pipeline.ask(variant("Zzz zz z?", "first", {}))
    assert [task_of(one).cache_status for one in sent] == [CacheStatus.BYPASS]
    pipeline.answer(sent)
    assert pipeline.how(variant("Zzz zz z?", "second", {})) is None
    assert pipeline.answers.answers == {}
    pipeline.answer(pipeline.ask(variant(ASKED, "other", {})))
    assert pipeline.how(variant(NEAR, "near", {})) is CacheStatus.SEMANTIC


def test_while_nothing_shows_the_meaning_nothing_is_kept_that_it_might_forbid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calm = Recogniser(models=[], weights=[0.0] * 26, bias=0, least=0.5, source="this test")
    monkeypatch.setattr("forebay_jobs.caches.semantic.shipped_recogniser", lambda version: calm)
    pipeline = Pipeline()
    pipeline.embedder.broken = True
    sent = pipeline.ask(variant("Zzz zz z?", "first", {}))
    assert [task_of(one).cache_status for one in sent] == [CacheStatus.MISS]
    pipeline.answer(sent)
    assert pipeline.answers.answers == {}


def test_a_time_to_live_of_its_own_lets_equal_words_be_answered_so_long(pipeline: Pipeline) -> None:
    own = {"cache": CacheOptions(ttl_s=300)}
    pipeline.answer(pipeline.ask(variant("Is it raining in Oslo?", "first", own)))
    assert pipeline.how(variant("Is it raining in Oslo?", "second", own)) is CacheStatus.EXACT
    assert pipeline.how(variant("Is it raining in Oslo, Oslo?", "near", own)) is None
    assert pipeline.how(variant("Is it raining in Oslo?", "without", {"cache": CacheOptions()})) is None
    pipeline.now_ms += 300_000
    assert pipeline.how(variant("Is it raining in Oslo?", "later", own)) is None
