"""An audit answers each call of a log as the job would have, and its sums are those of the calls."""

import random
from typing import Any

import pytest
from forebay_jobs.reuse.eligibility import Reuse
from forebay_ops.audit.accounting import EXACT, NEAR, Side
from forebay_ops.audit.questions import Asked, Nearness, Questions
from forebay_schemas.config import Config, load_config
from forebay_schemas.prices import cost
from forebay_schemas.records import CacheOptions, CachePolicy, Lane, Usage

from tests.builders import system
from tests.ops.audit_doubles import AT_S, COST, USAGE, WordCounter, audited, make_call

PARCEL, REWORDED, OTHER = "How do I return a parcel?", "A parcel how do I return?", "Who wrote Hamlet?"
DAY_S = 86_400.0


def ways(side: Side) -> dict[str, int]:
    return {way: sums.calls for way, sums in side.sums.items()}


def with_category(**settings: Any) -> Config:
    config = load_config()
    default = config.category("default").model_copy(update=settings)
    return config.model_copy(update={"categories": {"default": default}})


# --- exact repeats ------------------------------------------------------------------------------------------------


def test_an_equal_call_is_an_exact_repeat_and_the_first_goes_to_its_tier() -> None:
    audit = audited([make_call(PARCEL), make_call(f"  {PARCEL} "), make_call(OTHER)])
    assert ways(audit.exact_only) == {"small": 2, EXACT: 1}
    small = cost(Usage(**USAGE), audit.config.price("small"), Lane.INTERACTIVE)
    sums = audit.exact_only.sums
    assert (sums[EXACT].today, sums[EXACT].then) == (COST, 0.0)
    assert sums["small"].then == pytest.approx(2 * small)
    assert audit.today == pytest.approx(3 * COST)


@pytest.mark.parametrize(
    "fields", [{"tenant": "globex"}, {"temperature": 0.2}, {"seed": 7}, {"static_messages": [system("Be brief.")]}]
)
def test_what_differs_in_anything_that_shapes_the_answer_is_none(fields: dict[str, Any]) -> None:
    assert EXACT not in audited([make_call(PARCEL), make_call(PARCEL, **fields)]).exact_only.sums


@pytest.mark.parametrize(
    ("question", "fields", "reuse"),
    [
        ("What is the weather like today?", {}, Reuse.TIME_SENSITIVE),
        ("Where is my order?", {}, Reuse.USER_SPECIFIC),
        (PARCEL, {"temperature": 1.0}, Reuse.TEMPERATURE),
        (PARCEL, {"cache": CacheOptions(policy=CachePolicy.BYPASS)}, Reuse.POLICY),
    ],
)
def test_what_is_never_reused_is_no_repeat_of_any_kind(question: str, fields: dict[str, Any], reuse: Reuse) -> None:
    audit = audited([make_call(question, **fields)] * 3, embedder=WordCounter())
    for side in (audit.exact_only, audit.with_near):
        assert not {EXACT, NEAR} & side.sums.keys()
    assert audit.reuse == {reuse: 3}


def test_an_answer_is_too_old_after_its_time_to_live_and_the_next_one_counts_from_then() -> None:
    times = [0.0, DAY_S, DAY_S + 1, DAY_S + 2]  # a day is the default
    audit = audited([make_call(PARCEL, AT_S + time) for time in times])
    assert ways(audit.exact_only) == {"small": 2, EXACT: 2}
    newest_first = audited([make_call(PARCEL, AT_S - time) for time in times])
    assert ways(newest_first.exact_only) == {"small": 2, EXACT: 2}


def test_without_times_nothing_is_too_old() -> None:
    assert ways(audited([make_call(PARCEL), make_call(PARCEL, AT_S)]).exact_only) == {"small": 1, EXACT: 1}


def test_the_request_s_own_time_to_live_and_refresh_count() -> None:
    short = CacheOptions(ttl_s=10)
    audit = audited([make_call(PARCEL, AT_S + time, cache=short) for time in (0, 5, 11)])
    assert ways(audit.exact_only) == {"small": 2, EXACT: 1}
    anew = make_call(PARCEL, cache=CacheOptions(policy=CachePolicy.REFRESH))
    assert ways(audited([anew, anew, make_call(PARCEL)]).exact_only) == {"small": 2, EXACT: 1}


def test_an_answer_that_was_cut_off_is_not_kept() -> None:
    cut = make_call(PARCEL, complete=False)
    assert ways(audited([cut, cut, make_call(PARCEL), cut]).exact_only) == {"small": 3, EXACT: 1}


def test_the_oldest_digests_are_forgotten_where_there_are_too_many() -> None:
    calls = [make_call(f"What is {number} called?") for number in range(20)]
    audit = audited([*calls, calls[-1], calls[0]], most_digests=10)
    assert ways(audit.exact_only) == {"small": 21, EXACT: 1}
    assert audit.forgotten > 0


# --- near repeats -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [512, 1])
def test_a_rewording_in_an_equal_context_is_a_near_repeat_in_the_same_batch_or_later(batch: int) -> None:
    other_context = make_call(REWORDED, static_messages=[system("Be brief.")])
    calls = [make_call(PARCEL), make_call(REWORDED), make_call(OTHER), other_context]
    audit = audited(calls, embedder=WordCounter(), batch=batch)
    assert ways(audit.with_near) == {"small": 3, NEAR: 1}
    assert ways(audit.exact_only) == {"small": 4}
    assert (audit.with_near.sums[NEAR].today, audit.with_near.sums[NEAR].then) == (COST, 0.0)


def test_an_exact_repeat_of_a_near_repeat_is_near_again_because_no_answer_was_kept_for_it() -> None:
    audit = audited([make_call(PARCEL), make_call(REWORDED), make_call(REWORDED)], embedder=WordCounter())
    assert ways(audit.with_near) == {"small": 1, NEAR: 2}
    assert ways(audit.exact_only) == {"small": 2, EXACT: 1}


def test_the_threshold_is_the_category_s() -> None:
    calls = [make_call("one two three four five six seven eight nine ten"),
             make_call("one two three four five six seven eight nine eleven")]  # cosine 0.9  # fmt: skip
    for similarity, near in ((0.89, 1), (0.91, 0)):
        audit = audited(calls, embedder=WordCounter(), config=with_category(similarity=similarity))
        assert audit.with_near.sums[NEAR].calls == near


def test_categories_that_compare_no_meaning_have_none() -> None:
    audit = audited(
        [make_call(PARCEL), make_call(REWORDED)], embedder=WordCounter(), config=with_category(reuse="exact")
    )
    assert NEAR not in audit.with_near.sums
    assert audit.looked_up == 0


def test_what_the_model_does_not_grasp_is_not_compared() -> None:
    calls = [make_call("ungraspable one two"), make_call("two ungraspable one")]
    assert NEAR not in audited(calls, embedder=WordCounter()).with_near.sums


@pytest.mark.parametrize("batch", [512, 1])
def test_a_near_answer_is_too_old_after_its_own_time_to_live(batch: int) -> None:
    config = with_category(semantic_ttl_s=60)
    calls = [make_call(PARCEL, AT_S), make_call(REWORDED, AT_S + 61), make_call(PARCEL, AT_S + 62)]
    audit = audited(calls, embedder=WordCounter(), config=config, batch=batch)
    assert ways(audit.with_near) == {"small": 2, EXACT: 1}
    fresh = audited([calls[0], make_call(REWORDED, AT_S + 60)], embedder=WordCounter(), config=config, batch=batch)
    assert ways(fresh.with_near) == {"small": 1, NEAR: 1}


def test_each_distinct_question_is_embedded_once_and_no_more_than_allowed() -> None:
    embedder = WordCounter()
    calls = [make_call(PARCEL), make_call(PARCEL), make_call(PARCEL, tenant="globex"), make_call(OTHER)]
    audit = audited([*calls, *calls], embedder=embedder, batch=4)
    assert embedder.batches == [2]
    assert (len(audit.questions), audit.questions.beyond) == (2, 0)

    limited = audited([*calls, make_call("Who wrote Faust?")], embedder=WordCounter(), most=1, batch=2)
    assert (len(limited.questions), limited.questions.beyond) == (1, 2)
    assert limited.today == pytest.approx(5 * COST)


def test_how_calls_are_batched_changes_nothing() -> None:
    rng = random.Random(7)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
    calls = [
        make_call(" ".join(rng.sample(words, 3)), AT_S + 900 * number, tenant=rng.choice("ab")) for number in range(300)
    ]
    config = with_category(similarity=0.99, exact_ttl_s=20_000, semantic_ttl_s=30_000)
    sums = [audited(calls, embedder=WordCounter(), config=config, batch=size).with_near.sums for size in (1, 7, 512)]
    assert sums[0][NEAR].calls > 0 < sums[0][EXACT].calls
    assert sums[0] == sums[1] == sums[2]


def test_the_nearest_is_the_one_that_a_plain_comparison_finds() -> None:
    embedder, rng = WordCounter(), random.Random(3)
    texts = list(dict.fromkeys(" ".join(rng.choices("abcdefgh", k=4)) for _ in range(200)))
    questions = Questions(embedder, 1000, keep_texts=False)
    rows = [row for row in questions.rows(texts) if row is not None]
    asked = [Asked(context=str(row % 3), row=row, at_s=float(row), ttl_s=50) for row in rows]
    nearness = Nearness(questions)
    for question in asked[:100]:
        nearness.learn(question)
    vectors = embedder.embed(texts)
    for question, found in zip(asked[100:], nearness.look(asked[100:]), strict=True):
        fits = [o.row for o in asked[:100] if o.context == question.context and question.at_s - o.at_s <= 50]
        expected = max((float(vectors[question.row] @ vectors[row]) for row in fits), default=-1.0)
        assert found == pytest.approx(expected, abs=1e-3)


# --- what is counted ----------------------------------------------------------------------------------------------


def test_the_batch_lane_pays_its_part_on_both_sides() -> None:
    audit = audited([make_call(PARCEL, lane=Lane.BATCH)])
    assert audit.today == pytest.approx(COST / 2)
    small = cost(Usage(**USAGE), audit.config.price("small"), Lane.BATCH)
    assert audit.exact_only.sums["small"].then == pytest.approx(small)


def test_every_call_and_every_dollar_is_counted_once_on_each_side() -> None:
    rng = random.Random(1)
    asked = [PARCEL, REWORDED, OTHER, "Where is my order?", "Compare A and B, then prove why step by step; and so on."]
    calls = [
        make_call(rng.choice(asked), AT_S + rng.random() * 10 * DAY_S, usage=Usage(prompt_tokens=rng.randint(1, 500)))
        for _ in range(400)
    ]
    audit = audited(calls, embedder=WordCounter(), batch=64)
    for side in (audit.exact_only, audit.with_near):
        assert sum(sums.calls for sums in side.sums.values()) == audit.calls == 400
        assert sum(sums.today for sums in side.sums.values()) == pytest.approx(audit.today)
    assert sum(audit.reuse.values()) == 400
    assert float(audit.questions.costs.sum()) == pytest.approx(audit.today)
    assert int(audit.questions.counts.sum()) == 400


def test_the_static_prefix_counts_from_its_second_prompt_on_by_its_share_of_the_characters() -> None:
    static = [system("x" * 300)]
    calls = [make_call(text * 10, static_messages=static) for text in ("alpha beta", "gamma zeta")]
    audit = audited([*calls, make_call("What is without a prefix?")])
    assert audit.prefixes.prompt_tokens == 300
    assert audit.prefixes.repeated_tokens == pytest.approx(100 * 300 / 400)


def test_of_what_is_answered_by_reuse_no_prefix_is_read_again() -> None:
    static = [system("x" * 300)]
    audit = audited([make_call("alpha beta" * 10, static_messages=static)] * 2)
    assert (audit.prefixes.prompt_tokens, audit.prefixes_generated.prompt_tokens) == (200, 100)
    assert (audit.prefixes.repeated_tokens, audit.prefixes_generated.repeated_tokens) == (75, 0)
