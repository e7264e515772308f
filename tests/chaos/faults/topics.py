"""Topics that get more partitions while they are used, or are deleted and made anew.

What lay in a topic is gone with it, and so is whoever waited for that: one is deleted while nothing is in flight.
"""

import time
from collections.abc import Callable

from confluent_kafka import ConsumerGroupTopicPartitions as GroupPlaces
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions  # pyright: ignore[reportPrivateImportUsage]
from forebay_jobs.cluster import NO_ANSWER, Cluster
from forebay_ops.topics import create_topics
from forebay_schemas.codec import Codec
from forebay_schemas.records import Lane
from forebay_schemas.topics import Headers, Topics

from tests.builders import make_request
from tests.waiting import eventually

from ..answers import question
from ..fault import Fault
from ..scene import Scene

_GONE_S = 3.0
"""Longer than clients take to hear that a topic is gone."""
_TIMEOUT_S = 30
_FIRST_TENANT = "first"
_MORE_THAN_BEFORE = 1_000
"""What this load writes to a partition in a few minutes."""


def _grown(scene: Scene) -> list[str]:
    config = scene.running.config
    topics = config.kafka.topics
    tiers = [topics.tier(tier, lane) for tier in config.tiers for lane in Lane]
    return [topics.requests, topics.requests_batch, *tiers, topics.results, topics.replies]


def _add_partitions(scene: Scene) -> None:
    there = scene.admin.list_topics(timeout=_TIMEOUT_S).topics
    wanted = [NewPartitions(name, len(there[name].partitions) + 1) for name in _grown(scene)]
    for grown in scene.admin.create_partitions(wanted).values():
        grown.result()


def _newest_are_read(scene: Scene) -> bool:
    """Whether the job has read what was written to a request topic's newest partition, and a worker to a tier's."""
    topics = scene.running.config.kafka.topics
    tier = next(iter(scene.running.config.tiers))
    group = topics.workers_group(tier, Lane.INTERACTIVE)
    return _committed(scene, topics.job_group, topics.requests) and _committed(
        scene, group, topics.tier(tier, Lane.INTERACTIVE)
    )


def _committed(scene: Scene, group: str, topic: str) -> bool:
    newest = len(scene.admin.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions) - 1
    (told,) = scene.admin.list_consumer_group_offsets([GroupPlaces(group, [TopicPartition(topic, newest)])]).values()
    (place,) = told.result().topic_partitions
    return place.offset > 0


def _delete(name: Callable[[Topics], str]) -> Callable[[Scene], None]:
    def inject(scene: Scene) -> None:
        for gone in scene.admin.delete_topics([name(scene.running.config.kafka.topics)]).values():
            gone.result()

    return inject


def _felt(scene: Scene) -> bool:
    return scene.broken_for_s() > _GONE_S


def _make_anew(scene: Scene) -> None:
    create_topics(scene.running.config)
    scene.load.resume()


def _make_requests_anew(scene: Scene) -> None:
    """With more records in each partition than the old one ever had: whoever goes on from an old offset finds something
    there, and never sees the request that is first."""
    config = scene.running.config
    topic, kafka = config.kafka.topics.requests, config.kafka
    create_topics(config)
    producer = Producer(kafka.client())
    for partition in range(len(scene.admin.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions)):
        subject = time.time_ns()
        first = make_request(
            question(_FIRST_TENANT, subject),
            request_id=f"first-{subject}",
            tenant=_FIRST_TENANT,
            created_ms=time.time_ns() // 1_000_000,
        )
        headers = Headers(request_id=first.request_id, tenant=first.tenant).to_kafka()
        producer.produce(topic, Codec().encode(first), partition=partition, headers=dict(headers))
        producer.flush(_TIMEOUT_S)
        for _ in range(_MORE_THAN_BEFORE):
            producer.produce(topic, b"no request", partition=partition)
    assert producer.flush(_TIMEOUT_S) == 0
    _make_anew_for_the_job(scene)


def _make_anew_for_the_job(scene: Scene) -> None:
    made_ms = time.time() * 1000
    _make_anew(scene)
    eventually(lambda: _began_since(scene, made_ms), "the job begins with the new topic", timeout_s=_TIMEOUT_S)


def _began_since(scene: Scene, moment_ms: float) -> bool:
    try:
        jobs = Cluster(scene.running.config).jobs()
    except NO_ANSWER:
        return False
    return bool(jobs) and all(job["start-time"] > moment_ms for job in jobs) and scene.job_runs()


_MADE_ANEW: tuple[tuple[str, Callable[[Topics], str], Callable[[Scene], None]], ...] = (
    ("request", lambda topics: topics.requests, _make_requests_anew),
    ("tier", lambda topics: topics.tier("small", Lane.INTERACTIVE), _make_anew),
    ("result", lambda topics: topics.results, _make_anew_for_the_job),
    ("reply", lambda topics: topics.replies, _make_anew),
)

FAULTS = (
    Fault("partitions added", Scene.generating, _add_partitions, until=_newest_are_read),
    *(
        Fault(
            f"{kind} topic deleted and made anew",
            when=Scene.idle,
            inject=_delete(name),
            until=_felt,
            heal=heal,
        )
        for kind, name, heal in _MADE_ANEW
    ),
)
