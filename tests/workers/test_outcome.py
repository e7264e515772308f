"""Who hears of a task that is handed on, doubtful, cancelled or given up, and what is counted of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from forebay_schemas.errors import ErrorCode
from forebay_schemas.metrics import WorkerMetrics
from forebay_schemas.records import DeadLetter, Event, Hop, Lane, Result, Task
from forebay_schemas.topics import Headers
from forebay_workers import answer
from forebay_workers.answer import Retry, Wait
from forebay_workers.backends import CutShort, GenerationError, Unavailable
from forebay_workers.counting import count
from forebay_workers.lanes import Delivery
from forebay_workers.outcome import ERROR_CHARS, Outcome
from prometheus_client import CollectorRegistry

from ..builders import NOW_MS, make_request, make_task
from ..samples import total
from .doubles import CODEC, delivery, task_for
from .saying import SMALL_COST, USAGE, Answering, reply_of, saying, task_of

REFUSAL = "I'm sorry, but I can't help with that."
JSON = json.dumps({"type": "json_object"})
MEDIUM_COST = (1000 * 0.005 + 10 * 0.01) / 1000
LARGE_COST = (1000 * 0.01 + 10 * 0.02) / 1000
SMALL_HOP = Hop(tier="small", model_id="model", reason="refusal", confidence=0.9, usage=USAGE, cost=SMALL_COST)


@pytest.fixture
def run(tmp_path: Path) -> Answering:
    run = Answering(tmp_path)
    run.pool.says = [saying(REFUSAL, confidence=0.9)]
    return run


def counted(outcome: Outcome, lane: Lane = Lane.INTERACTIVE, tier: str = "small") -> Any:
    """Reads a sample after the outcome was counted."""
    registry = CollectorRegistry()
    count(WorkerMetrics(registry), delivery(tier=tier, lane=lane), outcome)
    return lambda name, **labels: total(registry, f"forebay_{name}", **labels)


def test_a_reply_to_nobody_counts_by_what_it_took_alone(run: Answering) -> None:
    """What the job asks itself is no service's request, and is paid for."""
    run.pool.says = [saying()]
    read = counted(run.outcome(delivery(task_for(reply_topic="llm.audit"))))
    assert read("replies_total") == read("reply_cost_dollars_total") == 0
    assert read("cost_dollars_total") == pytest.approx(SMALL_COST)


def test_a_doubtful_reply_to_nobody_is_for_no_person_to_see_and_counts_as_no_answer(run: Answering) -> None:
    run.pool.says = [saying(confidence=0.1, model_id="standby", finish_reason="length", first_token_ms=12.0)]
    outcome = run.outcome(delivery(task_for(reply_topic="llm.audit"), tier="large"))
    assert [record.topic for record in outcome.records] == ["llm.audit", "llm.results"]
    read = counted(outcome, tier="large")
    counts = ("reviews_total", "standby_answers_total", "cut_off_total", "confidence_ratio_count")
    assert [read(f"worker_{name}") for name in counts] == [0] * 4
    assert read("generation_seconds_count") == read("first_token_seconds_count") == 0


# Escalation


def test_a_poor_answer_goes_one_tier_up_and_nobody_hears_of_it(run: Answering) -> None:
    request = make_request(deadline_ms=NOW_MS + 60_000)
    task = make_task(request, bucket="5", traceparent="00-ab-cd-01")
    outcome = run.outcome(delivery(CODEC.encode(task), lane=Lane.BATCH))
    (record,) = outcome.records
    assert (record.topic, record.key) == ("llm.tier.medium.batch", "task-1")
    headers = Headers(
        request_id="request-1",
        tenant="acme",
        deadline_ms=NOW_MS + 60_000,
        bucket="5",
        task="task-1/1",
        traceparent="00-ab-cd-01",
    )
    assert record.headers == headers.to_kafka()
    handed = task_of(outcome)
    (hop,) = handed.path
    assert (hop.tier, hop.model_id, hop.reason, hop.confidence, hop.usage) == (
        "small", "model", "refusal", 0.9, USAGE,
    )  # fmt: skip
    assert hop.cost == pytest.approx(SMALL_COST)
    assert handed == Task(**{name: getattr(task, name) for name in Task.__struct_fields__} | {"hop": 1, "path": [hop]})
    assert (outcome.reply, outcome.dead, outcome.handed_to) == (None, None, "medium")


def test_the_reply_of_a_higher_tier_tells_the_way_and_costs_all_of_it(run: Answering) -> None:
    run.pool.says = [saying(model_id="middle")]
    reply = run.reply(delivery(task_for(hop=1, path=[SMALL_HOP]), tier="medium"))
    assert (reply.tier, reply.model_id, reply.hops, reply.path, reply.review) == (
        "medium", "middle", 2, [SMALL_HOP], False,
    )  # fmt: skip
    assert reply.cost == pytest.approx(SMALL_COST + MEDIUM_COST)
    assert reply.usage == USAGE
    assert reply.route is not None
    assert reply.route.tier == "small"


def test_a_task_goes_up_no_more_often_than_its_category_allows(tmp_path: Path) -> None:
    run = Answering(tmp_path, "[categories.default.escalation]\nmax_escalations = 1\n")
    run.pool.says = [saying(REFUSAL)]
    assert run.outcome(delivery(task_for())).handed_to == "medium"
    run.pool.says = [saying(REFUSAL, model_id="middle")]
    reply = run.reply(delivery(task_for(hop=1, path=[SMALL_HOP]), tier="medium"))
    assert (reply.text, reply.review) == (REFUSAL, True)


def test_a_task_goes_no_higher_than_its_request_allows(run: Answering) -> None:
    reply = run.reply(delivery(task_for(make_request(max_tier="small"))))
    assert (reply.text, reply.review) == (REFUSAL, True)


def test_thresholds_are_the_categorys(tmp_path: Path) -> None:
    run = Answering(tmp_path, "[categories.careful.escalation]\nmin_confidence = 0.95\n")
    run.pool.says = [saying(confidence=0.9)]
    assert run.outcome(delivery(task_for(make_request(category="careful")))).handed_to == "medium"
    assert run.outcome(delivery(task_for(make_request(category="other")))).handed_to is None


def test_what_no_further_tier_can_answer_well_is_for_a_person_to_see(run: Answering) -> None:
    run.pool.says = [saying(confidence=0.1, model_id="big")]
    outcome = run.outcome(delivery(task_for(), tier="large"))
    reply, result, event = outcome.records
    assert reply_of(outcome).review
    assert CODEC.decode(result.value, Result).reply == reply.value
    assert (event.topic, event.key) == ("llm.events", "request-1")
    assert CODEC.decode(event.value, Event) == Event(
        event="review",
        source="worker",
        happened_ms=NOW_MS + 140,
        attributes={"request_id": "request-1", "tenant": "acme", "reason": "confidence", "model_id": "big"},
    )


# JSON


def test_invalid_json_is_asked_for_once_more_and_both_are_paid_for(run: Answering) -> None:
    run.pool.says = [saying("{"), saying("{}")]
    reply = run.reply(delivery(task_for(make_request(response_format=JSON))))
    first, second = run.pool.asked
    assert first.temperature < second.temperature
    assert (reply.text, reply.tier, reply.hops) == ("{}", "small", 2)
    assert [(hop.tier, hop.reason) for hop in reply.path] == [("small", "invalid_json")]
    assert reply.cost == pytest.approx(2 * SMALL_COST)


def test_invalid_json_goes_up_after_a_second_try(run: Answering) -> None:
    run.pool.says = [saying("{")]
    outcome = run.outcome(delivery(task_for(make_request(response_format=JSON))))
    assert len(run.pool.asked) == 2
    assert outcome.handed_to == "medium"
    assert [hop.reason for hop in task_of(outcome).path] == ["invalid_json", "invalid_json"]


def test_each_tier_is_asked_for_json_twice_and_what_stays_invalid_is_marked(run: Answering) -> None:
    run.pool.says = [saying("{")]
    tier, value, tiers = "small", task_for(make_request(response_format=JSON)), list[str]()
    while (outcome := run.outcome(delivery(value, tier=tier))).handed_to:
        tier, value = outcome.handed_to, outcome.records[0].value
    reply = reply_of(outcome)
    tiers = [hop.tier for hop in reply.path]
    assert (tiers, reply.tier) == (["small", "small", "medium", "medium", "large"], "large")
    assert (reply.text, reply.hops, reply.review) == ("{", 6, True)


@pytest.mark.parametrize(("most", "tier"), [(0, "small"), (1, "medium")])
def test_a_second_try_for_json_is_no_escalation(tmp_path: Path, most: int, tier: str) -> None:
    run = Answering(tmp_path, f"[categories.default.escalation]\nmax_escalations = {most}\n")
    run.pool.says = [saying("{")]
    outcome = run.outcome(delivery(task_for(make_request(response_format=JSON))))
    if most:
        outcome = run.outcome(delivery(outcome.records[0].value, tier=tier))
    reply = reply_of(outcome)
    assert (reply.tier, reply.text, reply.hops, reply.review) == (tier, "{", 2 * most + 2, True)


def test_an_attempt_that_fails_after_invalid_json_leaves_what_it_cost(run: Answering) -> None:
    run.pool.says = [saying("{"), GenerationError(ErrorCode.ENGINE_FAILED, "out of memory"), saying("{}")]
    record = delivery(task_for(make_request(response_format=JSON)))
    assert isinstance(run.answer(record, attempt=1), Retry)
    outcome = run.answer(record, attempt=2)
    assert isinstance(outcome, Outcome)
    reply = reply_of(outcome)
    assert (reply.text, reply.hops) == ("{}", 2)
    assert reply.cost == pytest.approx(2 * SMALL_COST)


def test_a_deadline_during_the_second_try_is_told_with_the_cost_of_the_first(run: Answering) -> None:
    run.pool.says = [saying("{")]
    request = make_request(response_format=JSON, deadline_ms=NOW_MS + 140)
    reply = run.reply(delivery(task_for(request)))
    assert reply.error is not None
    assert (reply.error.code, reply.hops, len(run.pool.asked)) == ("deadline_exceeded", 1, 1)
    assert reply.cost == pytest.approx(SMALL_COST)


# Unavailable tiers


def test_an_unavailable_tier_hands_its_tasks_to_its_neighbour(run: Answering) -> None:
    run.pool.says = [Unavailable("the endpoint is down")]
    outcome = run.outcome(delivery(task_for()))
    assert outcome.handed_to == "medium"
    assert task_of(outcome).path == [Hop(tier="small", model_id="model", reason="unavailable")]
    below = run.outcome(delivery(task_for(make_request(max_tier="medium")), tier="medium"))
    assert below.handed_to == "small"


def test_standing_in_is_no_escalation(tmp_path: Path) -> None:
    run = Answering(tmp_path, "[categories.default.escalation]\nmax_escalations = 0\n")
    run.pool.says = [Unavailable("down")]
    assert run.outcome(delivery(task_for())).handed_to == "medium"
    run.pool.says = [saying(model_id="middle")]
    path = [Hop(tier="small", model_id="model", reason="unavailable")]
    assert run.reply(delivery(task_for(hop=1, path=path), tier="medium")).hops == 1


def test_a_task_without_an_available_tier_may_be_sent_again(run: Answering) -> None:
    run.pool.says = [Unavailable("the endpoint is down")]
    reply = run.reply(delivery(task_for(make_request(max_tier="small"))))
    assert reply.error is not None
    assert (reply.error.code, reply.error.retryable) == ("engine_failed", True)
    assert "the endpoint is down" in reply.error.message


REFUSED = Unavailable("it takes no connections", unreached=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "ASK_AGAIN_S", 0.001)


@pytest.mark.usefixtures("impatient")
def test_a_model_that_takes_no_connections_is_waited_for_where_no_tier_stands_in(run: Answering) -> None:
    run.pool.says = [REFUSED, REFUSED, saying()]
    record = delivery(task_for(make_request(max_tier="small")))
    reply = run.reply(record)
    assert (reply.error, reply.text, reply.hops) == (None, "Paris.", 1)
    assert (len(run.pool.asked), record.attempts) == (3, 1)
    run.pool.says, run.pool.asked = [REFUSED, saying()], []
    assert run.outcome(delivery(task_for())).handed_to == "medium"


@pytest.mark.usefixtures("impatient")
def test_it_is_waited_for_until_it_takes_calls_again(run: Answering) -> None:
    run.pool.says, run.pool.takes = [REFUSED, saying()], 0
    looked = 0

    def takes_for(model: str | None) -> int:
        nonlocal looked
        looked += 1
        return int(looked > 3)

    run.pool.takes_for = takes_for
    assert run.reply(delivery(task_for(make_request(max_tier="small")))).text == "Paris."
    assert (looked, len(run.pool.asked)) == (4, 2)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("error", "fields", "code", "asked"),
    [
        (Unavailable("it broke off"), {}, "engine_failed", 1),
        (REFUSED, {"deadline_ms": NOW_MS + 300}, "deadline_exceeded", None),
    ],
    ids=["the request came to it", "the deadline comes first"],
)
def test_it_is_not_waited_for(
    run: Answering, error: Unavailable, fields: dict[str, Any], code: str, asked: int | None
) -> None:
    run.pool.says = [error]
    reply = run.reply(delivery(task_for(make_request(max_tier="small", **fields))))
    assert reply.error is not None
    assert reply.error.code == code
    assert asked in (len(run.pool.asked), None)


@pytest.mark.usefixtures("impatient")
def test_it_is_waited_for_no_longer_than_allowed_and_not_at_the_last_attempt(tmp_path: Path) -> None:
    run = Answering(tmp_path, "[worker]\nwait_for_model_s = 0.05\n")
    run.pool.says = [REFUSED]
    record = delivery(task_for(make_request(max_tier="small")))
    reply = run.reply(record)
    assert reply.error is not None
    assert (reply.error.code, len(run.pool.asked) > 2) == ("engine_failed", True)
    run.pool.asked = []
    assert isinstance(run.answer(record, attempt=run.config.worker.max_attempts), Outcome)
    assert len(run.pool.asked) == 1


def test_a_task_that_no_tier_can_answer_comes_to_an_end(run: Answering) -> None:
    run.pool.says = [Unavailable("down")]
    tier, value, tiers = "medium", task_for(), list[str]()
    while (outcome := run.outcome(delivery(value, tier=tier))).handed_to:
        tiers.append(tier)
        tier, value = outcome.handed_to, outcome.records[0].value
    assert [*tiers, tier] == ["medium", "large", "small"]
    assert reply_of(outcome).error is not None


AWAY = Unavailable("model cannot be reached")


def batch(age_s: float = 0, **fields: Any) -> Delivery:
    request = make_request(lane=Lane.BATCH, created_ms=round(NOW_MS - age_s * 1000), **fields)
    return delivery(task_for(request), lane=Lane.BATCH)


def test_a_batch_task_waits_for_a_model_that_is_left_alone_and_no_attempt_is_lost(run: Answering) -> None:
    run.pool.says, run.pool.takes = [AWAY], 0
    assert run.answer(batch(), attempt=2) == Wait()


def test_a_batch_task_that_its_model_never_got_lost_no_attempt_either(run: Answering) -> None:
    run.pool.says = [REFUSED]
    assert run.answer(batch(), attempt=2) == Wait()


def test_a_batch_task_that_fails_by_itself_is_tried_again_and_then_handed_on(run: Answering) -> None:
    run.pool.says = [AWAY]
    assert run.answer(batch(), attempt=1) == Retry("engine_failed: model cannot be reached")
    assert isinstance(run.answer(batch(), attempt=2), Outcome)


@pytest.mark.parametrize("late", [{"age_s": 23 * 3600 + 1}, {"age_s": 31, "deadline_ms": NOW_MS + 29_000}])
def test_a_batch_task_that_presses_is_handed_on(run: Answering, late: dict[str, Any]) -> None:
    run.pool.says, run.pool.takes = [AWAY], 0
    assert run.outcome(batch(**late)).handed_to == "medium"


# The end without an answer


def test_a_generation_that_the_deadline_cuts_short_is_paid_for_as_far_as_it_came(run: Answering) -> None:
    run.pool.says = [CutShort("standby", USAGE)]
    outcome = run.outcome(delivery(task_for(make_request(deadline_ms=NOW_MS + 101))))
    reply = reply_of(outcome)
    assert reply.error is not None
    assert (reply.error.code, reply.text, reply.hops) == ("deadline_exceeded", "", 1)
    assert (reply.model_id, reply.usage) == ("standby", USAGE)
    assert reply.cost == pytest.approx((1000 * 0.1 + 10 * 0.2) / 1000)
    assert counted(outcome)("worker_tokens_total", tier="small", kind="completion") == 10


def test_a_cancelled_task_is_told_so_without_a_generation(run: Answering) -> None:
    outcome = run.answerer.cancelled(delivery(task_for(hop=1, path=[SMALL_HOP]), tier="medium"))
    reply = reply_of(outcome)
    assert reply.error is not None
    assert (reply.error.code, reply.error.retryable, reply.hops) == ("cancelled", False, 1)
    assert reply.cost == pytest.approx(SMALL_COST)
    assert CODEC.decode(outcome.records[1].value, Result).reply == outcome.records[0].value
    assert run.pool.asked == []


def test_a_task_that_is_given_up_is_told_to_its_asker_and_kept_with_its_history(run: Answering) -> None:
    history = ["attempt 1 ended", "attempt 2: engine_failed: " + "x" * 1000]
    value = task_for(bucket="5")
    outcome = run.give_up(delivery(value, partition=3, offset=17), history)
    reply, result, dead = outcome.records
    error = reply_of(outcome).error
    assert error is not None
    assert (error.code, error.retryable, outcome.dead) == ("given_up", False, "given_up")
    assert len(error.message) < ERROR_CHARS + 50
    assert CODEC.decode(result.value, Result).reply == reply.value
    assert (dead.topic, dead.key) == ("llm.requests.dead", "request-1")
    letter = CODEC.decode(dead.value, DeadLetter)
    assert (letter.code, letter.place, letter.attempts, letter.value) == ("given_up", "worker", 2, value)
    assert (letter.topic, letter.partition, letter.offset) == ("llm.tier.small", 3, 17)
    assert (letter.request_id, letter.tenant) == ("request-1", "acme")
    assert letter.history[0] == history[0]
    assert history[1].startswith(letter.history[1].removesuffix("..."))


# Counting


def test_an_answer_counts_with_its_tokens_and_times(run: Answering) -> None:
    run.pool.says = [saying(model_id="standby", first_token_ms=12.0)]
    value = counted(run.outcome(delivery(task_for())))
    assert value("replies_total", tier="small", lane="interactive", outcome="ok") == 1
    assert value("worker_tokens_total", tier="small", kind="completion") == 10
    assert value("worker_standby_answers_total", tier="small", model="standby") == 1
    assert value("first_token_seconds_sum", tier="small") == pytest.approx(0.012)
    assert value("reply_latency_seconds_sum", cache_status="miss", tier="small") == pytest.approx(0.14)


def test_what_is_handed_on_counts_where_it_was_generated(run: Answering) -> None:
    value = counted(run.outcome(delivery(task_for())))
    assert value("worker_escalations_total", tier="small", reason="refusal") == 1
    assert value("worker_tokens_total", tier="small", kind="prompt") == 1000
    assert value("cost_dollars_total", tier="small", lane="interactive") == pytest.approx(SMALL_COST)
    assert value("replies_total", tier="small", lane="interactive", outcome="ok") == 0


def test_a_higher_tier_counts_its_own_generations_only(run: Answering) -> None:
    run.pool.says = [saying(model_id="middle")]
    value = counted(run.outcome(delivery(task_for(hop=1, path=[SMALL_HOP]), tier="medium")), tier="medium")
    assert value("worker_tokens_total", tier="medium", kind="prompt") == 1000
    assert value("cost_dollars_total", tier="medium", lane="interactive") == pytest.approx(MEDIUM_COST)
    assert value("worker_tokens_total", tier="small", kind="prompt") == 0


def test_a_second_try_counts_and_is_no_escalation(run: Answering) -> None:
    run.pool.says = [saying("{"), saying("{}")]
    value = counted(run.outcome(delivery(task_for(make_request(response_format=JSON)))))
    assert value("worker_tokens_total", tier="small", kind="prompt") == 2000
    assert value("cost_dollars_total", tier="small", lane="interactive") == pytest.approx(2 * SMALL_COST)
    assert value("worker_escalations_total", tier="small", reason="invalid_json") == 0


def test_ends_without_an_answer_count_by_their_code(run: Answering) -> None:
    value = counted(run.answerer.cancelled(delivery(task_for())))
    assert value("replies_total", tier="small", lane="interactive", outcome="cancelled") == 1
    value = counted(run.give_up(delivery(task_for())))
    assert value("replies_total", tier="small", lane="interactive", outcome="given_up") == 1
    assert value("worker_dead_letters_total", code="given_up") == 1


def test_doubtful_and_cut_off_answers_count_besides(run: Answering) -> None:
    run.pool.says = [saying(confidence=0.1, finish_reason="length", model_id="big")]
    value = counted(run.outcome(delivery(task_for(), tier="large")), tier="large")
    assert value("worker_reviews_total", tier="large") == 1
    assert value("worker_cut_off_total", tier="large") == 1
    assert value("worker_confidence_ratio_sum", tier="large") == pytest.approx(0.1)
