"""Topics that get more partitions while they are used, or are deleted and made anew.

What lay in a topic is gone with it, and so is whoever waited for that: one is deleted while nothing is in flight.
"""

from collections.abc import Callable

from confluent_kafka import ConsumerGroupTopicPartitions as GroupPlaces
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions  # pyright: ignore[reportPrivateImportUsage]
from forebay_ops.topics import create_topics
from forebay_schemas.records import Lane
from forebay_schemas.topics import Topics

from ..fault import Fault
from ..scene import Scene

_GONE_S = 3.0
"""Longer than clients take to hear that a topic is gone."""
_TIMEOUT_S = 30


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


FAULTS = (
    Fault("partitions added", Scene.generating, _add_partitions, until=_newest_are_read),
    Fault(
        "reply topic deleted and made anew",
        when=Scene.idle,
        inject=_delete(lambda topics: topics.replies),
        until=_felt,
        heal=_make_anew,
    ),
    Fault(
        "tier topic deleted and made anew",
        when=Scene.idle,
        inject=_delete(lambda topics: topics.tier("small", Lane.INTERACTIVE)),
        until=_felt,
        heal=_make_anew,
    ),
)
