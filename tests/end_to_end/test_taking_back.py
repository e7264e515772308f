"""Commands reach the job's desk through the control topic, and reused answers stream, on the whole stack."""

import redis
from forebay_schemas.records import CacheOptions, CachePolicy, Reply

from .conftest import RunningStack, eventually
from .traffic import Inbox

BYPASS = CacheOptions(policy=CachePolicy.BYPASS)


def test_a_request_that_is_taken_back_before_the_job_reads_it_is_refused(running: RunningStack) -> None:
    inbox = Inbox()
    store = redis.Redis.from_url(running.config.redis.url.get_secret_value())
    with running.client(tenant="north") as client:
        client.cancel("unwanted")
        eventually(lambda: store.keys("*:seen:*unwanted"), "the job notes what was taken back")
        for request_id in ("unwanted", "wanted"):
            client.publish("What is a sluice?", request_id=request_id, cache=BYPASS, on_reply=inbox.take)
        eventually(lambda: len(inbox) == 2, "two replies")
    ((unwanted,), (wanted,)) = inbox.replies["unwanted"], inbox.replies["wanted"]
    assert unwanted.error is not None
    assert unwanted.error.code == "cancelled"
    assert wanted.error is None


def test_a_request_that_is_taken_back_on_its_way_gets_one_reply_like_all_others(running: RunningStack) -> None:
    inbox = Inbox()
    ids = [f"crowd-{number}" for number in range(60)]
    with running.client(tenant="north") as client:
        for request_id in ids:
            client.publish(f"What is {request_id}?", request_id=request_id, cache=BYPASS, on_reply=inbox.take)
        client.flush()
        for request_id in ids[30:]:
            client.cancel(request_id)
        eventually(lambda: len(inbox) == len(ids), "a reply to each")
    assert all(len(replies) == 1 for replies in inbox.replies.values())
    codes = [reply.error.code for (reply,) in inbox.replies.values() if reply.error]
    assert set(codes) <= {"cancelled"}
    assert not [request_id for request_id in ids[:30] if inbox.replies[request_id][0].error]


def test_an_answer_from_the_cache_streams_too(running: RunningStack) -> None:
    with running.client(tenant="north") as client:
        # A model of random weights finds no end to some answers, and those are not kept.
        questions = (f"What is weir number {number}?" for number in range(100))
        question = next(asked for asked in questions if _is_kept(client.ask(asked, timeout_s=60)))
        eventually(
            lambda: client.ask(question, timeout_s=60).cache_status == "exact", "the answer to be given from the cache"
        )
        stream = client.stream(question, timeout_s=60)
        assert "".join(stream) == client.ask(question, timeout_s=60).text
        assert stream.reply.cache_status == "exact"


def _is_kept(reply: Reply) -> bool:
    return reply.cache_status == "miss" and reply.finish_reason == "stop" and bool(reply.text.strip())
