"""Which requests are held back from reuse, and which are not."""

import time

import pytest
from forebay_jobs.reuse.eligibility import Reuse, is_time_sensitive, is_user_specific, reuse_of
from forebay_schemas.categories import CategoryConfig
from forebay_schemas.config import load_config
from forebay_schemas.records import CacheOptions, CachePolicy, CacheScope, Message

from tests.builders import make_request

TIME_SENSITIVE = """
Is the hotline open today?
What is the weather in Zurich?
What's the weather like?
Will it rain tomorrow?
How cold is it outside right now?
What is the current price of the MR-500?
Who is the current world champion?
What are the current mortgage rates?
What time is it in Tokyo?
What's the date?
What's the latest version of Python?
Is the 1,000 litre cistern in stock at the moment?
Is the offer still valid?
Is the website down?
Hello, is the payment service offline?
Are your stores closed this weekend?
What is the stock price of Nestle?
How much is a bitcoin worth?
What's the exchange rate between euro and dollar?
Any news about the merger?
What happened in the election yesterday?
Which models were released in the last 3 months?
Do you have any offers this week?
When does the next train to Bern leave?
Are you open on Monday?
Who won the game?
How many days until Christmas?
What changed recently in the terms?
How is the traffic on the A7?
Which pump is sold out?
What's the score?
Is GitHub down?
Are there delays on the Central line?
Is the 8:15 to Brighton delayed?
When will the service be back?
Any update on the outage?
"""

USER_SPECIFIC = """
Where is my order 4711?
Where is my parcel?
Has my refund been paid?
When will my delivery arrive?
Why was my account locked?
What's my balance?
What is the status of my claim?
How much is left on my plan?
How much do I owe?
How many points do I have?
Was I charged twice?
Why was I charged twice?
I was charged twice.
Am I eligible for the discount?
My name is Ada Lovelace, please update the contract.
Please cancel my subscription.
Can you track my parcel?
I want to return my order.
I'd like to change my appointment
I ordered a pump two weeks ago, where is it?
I ordered a filter and it hasn't arrived.
My parcel has not arrived.
My order is late.
The order number is MR-20394, when does it ship?
What happened to ticket #88213?
Write to ada@example.com
Call me at +41 44 123 45 67
My card is 4111 1111 1111 1111, why was it refused?
Which shops are near me?
Who am I?
Did our invoice get paid?
When does my contract end?
Where's my order?
My package never came.
I still haven't received my refund.
How long until my delivery gets here?
Show me my last three orders.
Tell me my balance
Which plan do I have?
Have you received my payment?
How far is my nearest store?
My tracking number is 1Z999AA10123456784.
Order 88213 lacks a part.
What is my IP address?
Show me my last five transactions.
Is my warranty still valid?
"""

NEITHER = """
How do I reset my password?
How do I return a parcel?
How do I cancel my subscription?
How can I change my delivery address?
Where do I find my order number?
Where can I see my invoices?
How do I track my parcel?
Can I change my plan at any time?
How long does a refund take?
What happens if my parcel is damaged?
I forgot my password, what should I do?
I bought a pump, how do I install it?
How do I close an account?
How is my data protected?
Which payment methods do you accept?
Do you ship to Switzerland?
What is the warranty period for a pump?
Is delivery of a rain barrel free above 50 euros?
Are you open on Sundays?
What are your opening hours?
How many days do I have to return an item?
How often should I clean the pond filter?
When is the best time to plant water lilies?
Can fish stay in the pond when it freezes over?
Can I leave the pump outside in cold weather?
How can I tell that the pump is broken down?
Is it possible to sit down?
Is the API open source?
What is an alternating current?
What current does the pump draw?
How do I change my current password?
What is the time complexity of quicksort?
What's the date format of ISO 8601?
What does 192.168.1.1 mean?
What happened on 1969-07-20?
Who signed the treaty of 05/12/1823?
What is 123456789 times 2?
What is the value of 3.14159265358?
How do I subscribe to the newsletter?
How is a weather station built?
How do I keep my software up to date?
How many litres does the MR-200 pump in an hour?
Now that the filter is clean, how do I start the pump?
Translate "where is the station" into French.
Why is my pump so loud?
Why does a rain barrel need a lid?
How long is the battery's life?
How do I enable the dry-run protection of the MR-500?
What voltage does the MR-500 need?
Explain how exchange rates work.
How much is the delivery?
How much water do I need for 10 koi?
What does the error E-404 mean?
How do I write an order confirmation?
What is a shipment?
When does a contract end by law?
Who wrote Hamlet?
What is the capital of France?
Is rain water from a barrel safe to drink?
Compare plastic and wooden rain barrels and recommend one.
Write a Python function that parses dates.
What do I do if a parcel does not arrive?
Do I have to register?
What if my order is late?
Where am I supposed to put the filter?
What does the order status "pending" mean?
What is the time difference between Zurich and Tokyo?
Which documents do I have to send?
When was the company founded?
Which diameter does the gutter connection have?
Summarise: the quick brown fox jumps over the lazy dog.
"""


def _lines(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.mark.parametrize("question", _lines(TIME_SENSITIVE))
def test_a_question_whose_answer_changes_with_the_day_is_time_sensitive(question: str) -> None:
    assert is_time_sensitive(question)


@pytest.mark.parametrize("question", _lines(USER_SPECIFIC))
def test_a_question_about_the_askers_own_data_is_user_specific(question: str) -> None:
    assert is_user_specific(question)


def test_line_breaks_and_typographic_apostrophes_do_not_hide_what_is_asked() -> None:
    assert is_user_specific("Hello,\nwhere is\nmy   order?")
    assert is_time_sensitive("what\u2019s the\ntime")


@pytest.mark.parametrize("question", _lines(NEITHER))
def test_a_question_that_anybody_may_ask_at_any_time_is_neither(question: str) -> None:
    assert not is_time_sensitive(question)
    assert not is_user_specific(question)


HOSTILE = [
    "a", "1", "1 ", "+1", "a.", "a@", "a@a.", "-1", "my ", "my a ", "is ", "is the ", "what ", "order ", "what is my ",
    "\n", " ", "#1", "0 ", "+(", "how many ", "i sent ", "current ", "my order is ", "in the last 1 ", "_", "\u00e9",
    '"', '"a', "\u201c", "when is a ", "flight a ",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_holds_the_job_up(text: str) -> None:
    hostile = text * (900_000 // len(text))
    started = time.process_time()
    is_time_sensitive(hostile)
    is_user_specific(hostile)
    assert time.process_time() - started < 1  # usually 20 ms; a pattern that goes astray takes minutes


def test_of_a_long_text_both_ends_are_judged() -> None:
    document = "The river rises in spring. " * 1_000
    assert is_user_specific(f"{document}\nWhere is my order?")
    assert is_time_sensitive(f"What has changed since yesterday? {document}")
    assert not is_time_sensitive(f"Summarise: {document} They said it would rain today. {document}")


def _reuse(**fields: object) -> Reuse:
    return reuse_of(make_request(**fields), load_config())


def test_an_ordinary_question_may_be_compared_by_meaning() -> None:
    assert _reuse() is Reuse.SEMANTIC


def test_a_request_that_bypasses_the_caches_is_not_reused() -> None:
    assert _reuse(cache=CacheOptions(policy=CachePolicy.BYPASS)) is Reuse.POLICY


@pytest.mark.parametrize(("reuse", "expected"), [("bypass", Reuse.POLICY), ("exact", Reuse.EXACT)])
def test_a_category_limits_what_may_be_done(reuse: str, expected: Reuse) -> None:
    config = load_config().model_copy(update={"categories": {"forms": CategoryConfig.model_validate({"reuse": reuse})}})
    assert reuse_of(make_request(category="forms"), config) is expected
    assert reuse_of(make_request(endpoint="forms"), config) is expected


def test_a_request_that_asks_for_variety_is_not_reused() -> None:
    assert _reuse(temperature=0.5) is Reuse.SEMANTIC
    assert _reuse(temperature=0.6) is Reuse.TEMPERATURE


def test_a_request_with_tools_or_without_a_last_question_is_only_reused_for_equal_ones() -> None:
    assert _reuse(tools="[]") is Reuse.EXACT
    assert _reuse(messages=[Message(role="assistant", content="Hello")]) is Reuse.EXACT


@pytest.mark.parametrize(
    ("question", "cache", "expected"),
    [
        ("Is it raining in Oslo?", CacheOptions(ttl_s=300), Reuse.EXACT),
        ("Is it raining in Oslo?", CacheOptions(scope=CacheScope.USER), Reuse.TIME_SENSITIVE),
        ("Is it raining in Oslo?", CacheOptions(ttl_s=300, policy=CachePolicy.BYPASS), Reuse.POLICY),
        ("Where is my parcel?", CacheOptions(ttl_s=300, scope=CacheScope.USER), Reuse.EXACT),
        ("Where is my parcel?", CacheOptions(ttl_s=300), Reuse.USER_SPECIFIC),
        ("Where is my parcel?", CacheOptions(scope=CacheScope.USER), Reuse.USER_SPECIFIC),
        ("Does my parcel come today?", CacheOptions(ttl_s=300), Reuse.USER_SPECIFIC),
        ("Does my parcel come today?", CacheOptions(ttl_s=300, scope=CacheScope.USER), Reuse.EXACT),
        ("How do I return a parcel?", CacheOptions(ttl_s=300, scope=CacheScope.USER), Reuse.SEMANTIC),
    ],
    ids=str,
)
def test_a_requests_own_time_to_live_and_scope_outweigh_the_rules(
    question: str, cache: CacheOptions, expected: Reuse
) -> None:
    assert reuse_of(make_request(question, user="ada", cache=cache), load_config()) is expected


@pytest.mark.parametrize(
    "question",
    [
        'What does the phrase "here today, gone tomorrow" mean?',
        "Correct this sentence: He go to school tomorrow.",
        "Classify the ticket: My order has not arrived.",
        "How do you say \u201cI will call you tonight\u201d in Spanish?",
    ],
)
def test_what_is_quoted_or_given_to_be_worked_on_is_not_what_is_asked(question: str) -> None:
    assert not is_time_sensitive(question)
    assert not is_user_specific(question)


def test_a_question_in_quotation_marks_is_still_asked() -> None:
    assert is_time_sensitive('"Is it raining in Oslo?"')
    assert is_time_sensitive("Correct me if I am wrong, but is it raining?")


def test_only_the_last_turn_is_judged() -> None:
    turns = [Message(role="user", content="Where is my order 4711?"), Message(role="assistant", content="Here.")]
    assert (
        _reuse(messages=[*turns, Message(role="user", content="Thanks! How do I return a parcel?")]) is Reuse.SEMANTIC
    )
    assert _reuse(messages=[*turns, Message(role="user", content="And where is my refund?")]) is Reuse.USER_SPECIFIC
