"""Names of topics, and headers that survive the way over Kafka."""

from typing import Any

import pytest
from forebay_schemas.errors import ErrorCode, RecordError
from forebay_schemas.records import Lane
from forebay_schemas.topics import DEADLINE, MAX_HEADER_BYTES, REQUEST_ID, TENANT, Headers, Topics, task_key
from hypothesis import given
from hypothesis import strategies as st

_text = st.none() | st.text(max_size=50)
headers = st.builds(
    Headers,
    request_id=_text,
    tenant=_text,
    reply_topic=_text,
    reply_key=_text,
    deadline_ms=st.none() | st.integers(0, 10**15),
    bucket=_text,
    task=_text,
    traceparent=_text,
)


def test_all_topics_begin_with_the_prefix() -> None:
    topics = Topics("shop")

    assert topics.tier("small", Lane.INTERACTIVE) == "shop.tier.small"
    assert topics.tier("small", Lane.BATCH) == "shop.tier.small.batch"
    assert [topics.requests, topics.requests_batch, topics.results, topics.replies] == [
        "shop.requests",
        "shop.requests.batch",
        "shop.results",
        "shop.replies",
    ]
    assert [topics.dead, topics.control, topics.events] == ["shop.requests.dead", "shop.control", "shop.events"]
    assert [topics.feedback, topics.audit] == ["shop.feedback", "shop.audit"]


@given(headers)
def test_headers_come_back_as_they_were(sent: Headers) -> None:
    raw: Any = sent.to_kafka()

    assert Headers.from_kafka(raw) == sent
    assert Headers.from_kafka(list(raw.items())) == sent


@pytest.mark.parametrize("raw", [None, {}, [], {"other": b"x"}, {TENANT: None}, [("other", None)]])
def test_absent_empty_and_unknown_headers_are_passed_over(raw: Any) -> None:
    assert Headers.from_kafka(raw) == Headers()


def test_of_repeated_names_the_last_counts() -> None:
    assert Headers.from_kafka([(TENANT, b"a"), (TENANT, b"b")]) == Headers(tenant="b")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (REQUEST_ID, b"\xff", "header forebay-request-id: is no UTF-8"),
        (TENANT, b"\xed\xa0\x80", "header forebay-tenant: is no UTF-8"),
        (TENANT, b"x" * (MAX_HEADER_BYTES + 1), "header forebay-tenant: has 1025 bytes; use at most 1024"),
        *(
            (DEADLINE, value, "header forebay-deadline-ms: is '.*; give milliseconds since the Unix epoch")
            for value in (b"", b"soon", b"-5", b"1.5", b" 1", b"1_0", b"\xd9\xa1", b"9" * 19, b"9" * 1000)
        ),
    ],
)
def test_a_header_that_cannot_be_read_is_named(name: str, value: bytes, problem: str) -> None:
    with pytest.raises(RecordError, match=problem) as caught:
        Headers.from_kafka({name: value})

    assert caught.value.code is ErrorCode.MALFORMED
    assert len(str(caught.value)) < 300


def test_tasks_of_one_prefix_share_a_key_and_others_have_their_own() -> None:
    assert task_key("p", "one") == task_key("p", "two") != task_key("q", "one")
    assert (task_key(None, "one"), task_key(None, "two", 8)) == ("one", "two")


def test_a_hot_prefix_is_spread_over_as_many_keys_as_asked_for_and_most_tasks_stay_when_it_doubles() -> None:
    tasks = [f"task-{number}" for number in range(1_000)]
    keys = {spread: [task_key("p", task, spread) for task in tasks] for spread in (1, 2, 4)}
    assert [len(set(keys[spread])) for spread in (1, 2, 4)] == [1, 2, 4]
    for few, many in ((1, 2), (2, 4)):
        stayed = sum(one == other for one, other in zip(keys[few], keys[many], strict=True))
        assert 400 < stayed < 600
