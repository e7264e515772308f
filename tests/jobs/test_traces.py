"""The job's part of a trace: one span for each request, with the stages that it met and when."""

from forebay_jobs.caches.answers import Answer
from forebay_jobs.messages import Outgoing
from forebay_schemas.config import load_config
from forebay_schemas.topics import TRACEPARENT, Headers

from tests.builders import NOW_MS, make_reply, make_request
from tests.jobs.doubles import DeskRig, an_asker, only_task, replies, reply_to
from tests.jobs.test_intake import IntakeRig, reply_in
from tests.recorded import NOT_RECORDED, PARENT, Recorded, ms, says, traceparent

HEADERS: dict[str, bytes | None] = {TRACEPARENT: PARENT.encode()}


def desk(recorded: Recorded) -> DeskRig:
    return DeskRig(recorded.traced(load_config()))


def test_an_exact_hit_is_a_lookup_within_the_job(recorded: Recorded) -> None:
    rig = IntakeRig(recorded.traced(load_config()))
    rig.cache(make_request())
    (sent,) = rig.take(make_request(), HEADERS, now_ms=NOW_MS + 10)
    reply = reply_in(sent)
    job, lookup = recorded.span("job"), recorded.span("exact lookup")
    assert recorded.tree() == ["job job", "  job exact lookup"]
    assert ms(job) == ms(lookup)
    assert ms(job)[0] == NOW_MS + 10
    assert abs(ms(job)[1] - ms(job)[0] - reply.latency.lookup_ms) < 0.002  # spans are exact to a microsecond
    assert (job.kind.name, says(job)["forebay.cache_status"], says(job)["forebay.tier"]) == (
        "CONSUMER",
        "exact",
        "small",
    )


def test_a_reply_and_its_piece_carry_the_jobs_span(recorded: Recorded) -> None:
    rig = IntakeRig(recorded.traced(load_config()))
    rig.cache(make_request())
    sent = rig.take(make_request(stream=True), HEADERS)
    told = traceparent(recorded.span("job"))
    assert [Headers.from_kafka({**one.headers}).traceparent for one in sent if isinstance(one, Outgoing)] == [
        told,
        told,
    ]


def test_a_miss_tells_its_stages_and_hands_its_task_a_span_to_go_on_from(recorded: Recorded) -> None:
    rig = desk(recorded)
    request = make_request(endpoint="desk")
    rig.arrive(request, asker=an_asker(request, traceparent=PARENT), lookup_ms=3.0)
    (sent,) = rig.tick(after_ms=20)
    assert recorded.tree() == [
        "job job",
        "  job exact lookup",
        "  job desk wait",
        "  job embedding",
        "  job semantic lookup",
        "  job dispatch",
    ]
    times = {span.name: ms(span) for span in recorded.spans()}
    assert times == {
        "exact lookup": (NOW_MS, NOW_MS + 3),
        "desk wait": (NOW_MS + 3, NOW_MS + 20),
        "embedding": (NOW_MS + 20, NOW_MS + 22),
        "semantic lookup": (NOW_MS + 22, NOW_MS + 23),
        "dispatch": (NOW_MS + 23, NOW_MS + 23),
        "job": (NOW_MS, NOW_MS + 23),
    }
    dispatch = recorded.span("dispatch")
    assert dispatch.kind.name == "PRODUCER"
    assert Headers.from_kafka({**sent.headers}).traceparent == only_task([sent]).traceparent == traceparent(dispatch)
    assert says(dispatch).items() >= {"forebay.tier": "small", "forebay.reason": "complexity"}.items()
    assert says(recorded.span("job")) == {
        "forebay.request_id": "request-1",
        "forebay.tenant": "acme",
        "forebay.endpoint": "desk",
        "forebay.category": "desk",
        "forebay.lane": "interactive",
        "forebay.cache_status": "miss",
        "forebay.similarity": 0.5,
        "forebay.tier": "small",
    }


def test_a_semantic_hit_tells_both_lookups_apart(recorded: Recorded) -> None:
    rig = desk(recorded)
    request = make_request("How?")
    rig.meaning.known["How?"] = Answer.of(make_reply(request_id="first"), {}, None)
    rig.arrive(request, asker=an_asker(request, traceparent=PARENT), lookup_ms=3.0)
    assert replies(rig.tick(after_ms=20))["request-1"].completed_ms == NOW_MS + 23
    assert ms(recorded.span("exact lookup")) == (NOW_MS, NOW_MS + 3)
    assert ms(recorded.span("semantic lookup")) == (NOW_MS + 22, NOW_MS + 23)
    assert ms(recorded.span("job")) == (NOW_MS, NOW_MS + 23)
    assert says(recorded.span("job"))["forebay.similarity"] == 0.99


def test_who_joins_waits_at_the_desk_in_a_trace_of_its_own(recorded: Recorded) -> None:
    rig = desk(recorded)
    task = rig.lead("leader")
    follower = make_request(request_id="follower")
    rig.arrive(follower, asker=an_asker(follower, traceparent=PARENT))
    rig.now_ms += 500
    rig.settle(task, reply_to(task))
    assert recorded.tree() == ["job job", "  job desk wait"]
    assert ms(recorded.span("desk wait")) == (NOW_MS, NOW_MS + 500)
    assert says(recorded.span("job"))["forebay.cache_status"] == "joined"


def test_what_is_refused_is_an_error_of_the_job(recorded: Recorded) -> None:
    rig = IntakeRig(recorded.traced(load_config()))
    rig.take(make_request(deadline_ms=NOW_MS), HEADERS, now_ms=NOW_MS + 10)
    rig.take(b"no request", {**HEADERS, "forebay-request-id": b"a", "forebay-tenant": b"acme"})
    assert [says(span)["error.type"] for span in recorded.spans()] == ["deadline_exceeded", "not_avro"]


def test_a_trace_that_is_not_recorded_goes_on_as_it_is(recorded: Recorded) -> None:
    for given in (NOT_RECORDED, "00-trace", None):
        rig = desk(recorded)
        request = make_request()
        rig.arrive(request, asker=an_asker(request, traceparent=given))
        assert only_task(rig.tick()).traceparent == given
    assert recorded.spans() == []


def test_a_job_that_does_not_trace_carries_a_trace_on(recorded: Recorded) -> None:
    rig, request = DeskRig(), make_request()
    rig.arrive(request, asker=an_asker(request, traceparent=PARENT))
    assert only_task(rig.tick()).traceparent == PARENT
    assert recorded.spans() == []
