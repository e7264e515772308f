"""Makes the topics of an installation, and checks those that exist already."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType, TopicMetadata  # pyright: ignore
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError
from forebay_schemas.records import Lane
from forebay_schemas.topics import TopicSpec

_TIMEOUT_S = 30
_DATED, _BY_BROKERS = "message.timestamp.type", "LogAppendTime"
_BATCHES_KEPT_DAYS = 90
"""Since a batch changed last: long after its replies are gone. Whoever submits one reads them all."""


@dataclass(frozen=True, slots=True)
class TopicsReport:
    """What became of the topics.

    Attributes:
        created: names of those that were made.
        kept: names of those that were there.
        warnings: what differs from the configuration in a way that works.
    """

    created: tuple[str, ...]
    kept: tuple[str, ...]
    warnings: tuple[str, ...]


def topic_specs(config: Config) -> list[TopicSpec]:
    """Every topic that the configuration needs, as it should be."""
    topics = config.kafka.topics
    names = [
        topics.requests,
        topics.requests_batch,
        *config.request_topics,
        *(topics.tier(tier, lane) for tier in config.tiers for lane in Lane),
        topics.results,
        topics.replies,
        topics.replies_stream,
        *config.kafka.reply_topics,
        topics.feedback,
        *config.feedback_topics,
        topics.dead,
        topics.events,
    ]
    limit = {
        "max.message.bytes": str(config.kafka.max_wire_bytes),
        # By the writer's clock, records of one that is slow would be past their retention when they are written, and
        # those of one that is fast by more than an hour are refused.
        _DATED: _BY_BROKERS,
    }
    specs = [TopicSpec(name, config.kafka.partitions, limit) for name in dict.fromkeys(names)]
    # What the router is retrained from has to last from one time to the next.
    kept = {"retention.ms": str(config.audits.kept_days * 86_400_000), "retention.bytes": "-1"}
    specs.append(TopicSpec(topics.audit, config.kafka.partitions, limit | kept))
    # Commands are few and take effect in the order in which they were given, so they share one partition. Of a batch
    # the newest record counts, and all of them are read for one.
    commands = limit | {"cleanup.policy": "compact"}
    batches = limit | {"cleanup.policy": "compact,delete", "retention.ms": str(_BATCHES_KEPT_DAYS * 86_400_000)}
    return [*specs, TopicSpec(topics.control, 1, commands), TopicSpec(topics.batches, 1, batches)]


def create_topics(config: Config) -> TopicsReport:
    """Make the topics that are missing, and check the others. Calling it again changes nothing.

    Another number of partitions is a warning: nothing depends on it but speed, and topics of others are often
    larger. So are records that their writers date, as in topics that older versions made. A smaller limit of bytes, or
    commands that are not compacted, would lose records later, so they raise.

    Raises:
        ConfigError: the brokers cannot be reached or refuse, or a topic that exists would lose records.
    """
    admin = AdminClient(config.kafka.client() | {"log_level": 0})  # what fails is raised, not printed as well
    specs = topic_specs(config)
    try:
        existing = _topics(admin)
        missing = [spec for spec in specs if spec.name not in existing]
        if meanwhile := _create(admin, missing, config.kafka.replication_factor):
            existing |= {name: topic for name, topic in _topics(admin).items() if name in meanwhile}
            missing = [spec for spec in missing if spec.name not in meanwhile]
        kept = [spec for spec in specs if spec.name in existing]
        found = _settings(admin, kept)
    except KafkaException as error:
        raise ConfigError(
            f"kafka.bootstrap: the topics at {config.kafka.bootstrap} cannot be made ({error.args[0].str()});"
            " check that the brokers run and that this user may create topics"
        ) from None
    if problems := _wrong_settings(kept, found):
        mend = "change them with kafka-configs; on a local stack, `forebay down --purge` starts afresh"
        raise ConfigError("topics that exist would lose records:\n  " + "\n  ".join(problems) + f"\n{mend}")
    warnings = [
        f"{spec.name} has {count} partitions where kafka.partitions is {spec.partitions}; it works as it is"
        for spec in kept
        if (count := len(existing[spec.name].partitions)) != spec.partitions
    ]
    if dated := [spec.name for spec in kept if found[spec.name][_DATED] != spec.settings[_DATED]]:
        warnings.append(
            f"{', '.join(dated)}: records are dated by their writers, so that one whose clock is wrong may be refused,"
            f" or deleted early; kafka-configs --bootstrap-server {config.kafka.bootstrap} --alter --topic NAME"
            f" --add-config {_DATED}={_BY_BROKERS} mends it"
        )
    return TopicsReport(tuple(spec.name for spec in missing), tuple(spec.name for spec in kept), tuple(warnings))


def _topics(admin: AdminClient) -> dict[str, TopicMetadata]:
    return admin.list_topics(timeout=_TIMEOUT_S).topics


def _create(admin: AdminClient, specs: list[TopicSpec], replication_factor: int) -> set[str]:
    """Make topics; the names of those that somebody else has made meanwhile, or a try of ours whose answer was lost."""
    if not specs:
        return set()
    meanwhile: set[str] = set()
    new = [NewTopic(spec.name, spec.partitions, replication_factor, config=spec.settings) for spec in specs]
    for name, future in admin.create_topics(new, operation_timeout=_TIMEOUT_S).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            meanwhile.add(name)
    # A busy broker tells of what it has made a moment later; who asks before would be told that it is not there.
    names, end = {spec.name for spec in specs}, time.monotonic() + _TIMEOUT_S
    while names - _topics(admin).keys():
        if time.monotonic() > end:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        time.sleep(0.05)
    return meanwhile


def _settings(admin: AdminClient, specs: list[TopicSpec]) -> dict[str, dict[str, str]]:
    """Of each topic its settings."""
    if not specs:
        return {}
    asked = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs]
    return {
        resource.name: {name: entry.value for name, entry in future.result().items()}
        for resource, future in admin.describe_configs(asked).items()
    }


def _wrong_settings(specs: list[TopicSpec], found: Mapping[str, Mapping[str, str]]) -> list[str]:
    problems = []
    for spec in specs:
        limit, wanted = found[spec.name]["max.message.bytes"], spec.settings["max.message.bytes"]
        if int(limit) < int(wanted):
            problems.append(f"{spec.name}: max.message.bytes is {limit}, and kafka.max_record_bytes needs {wanted}")
        policy = found[spec.name]["cleanup.policy"]
        if "compact" in spec.settings.get("cleanup.policy", "") and "compact" not in policy:
            problems.append(f"{spec.name}: cleanup.policy is {policy}, and must be compact")
    return problems
