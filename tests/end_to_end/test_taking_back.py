"""Commands reach the job's desk through the control topic, and reused answers stream, on the whole stack."""

import contextlib
from collections.abc import Iterator

import psutil
import redis
from forebay_schemas.records import CacheOptions, CachePolicy, Reply

from ..waiting import eventually
from .conftest import RunningStack
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


def test_what_is_taken_back_while_it_waits_or_is_generated_gets_no_answer_and_all_others_do(
    running: RunningStack,
) -> None:
    inbox = Inbox()
    ids = [f"crowd-{number}" for number in range(60)]  # more than are generated at once
    wanted, unwanted = ids[::2], ids[1::2]
    with running.client(tenant="north") as client:
        with _standing_still(running.engine()):
            for request_id in ids:
                client.publish(f"What is {request_id}?", request_id=request_id, cache=BYPASS, on_reply=inbox.take)
            eventually(lambda: _generating(running) > len(wanted), "most of them to be generated")
            for request_id in unwanted:
                client.cancel(request_id)
            eventually(lambda: len(inbox) == len(unwanted), "a reply to each that was taken back")
            eventually(lambda: _generating(running) == len(wanted), "all others to be generated")
        eventually(lambda: len(inbox) == len(ids), "a reply to each")
    assert all(len(replies) == 1 for replies in inbox.replies.values())
    failed = {name: reply.error.code for name, (reply,) in inbox.replies.items() if reply.error}
    assert failed == dict.fromkeys(unwanted, "cancelled")


@contextlib.contextmanager
def _standing_still(engine: list[psutil.Process]) -> Iterator[None]:
    """Meanwhile an engine takes requests, and writes nothing."""
    for process in engine:
        process.suspend()
    try:
        yield
    finally:
        for process in engine:
            process.resume()


def _generating(running: RunningStack) -> float:
    return running.total("worker", "forebay_worker_inflight")


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
