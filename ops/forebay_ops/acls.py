"""What each role may do on the brokers, by the names of this installation: as Kafka's ACLs, to print or to apply."""

# pyright: reportPrivateImportUsage=false
# confluent_kafka.admin documents these names, and does not list them in __all__.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from forebay_jobs.topics_used import feedback_topics, request_topics, topics_to_read, written_topics
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError
from forebay_schemas.records import Lane

from .topics import topic_specs

_TIMEOUT_S = 30

Operation = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs"]
"""As kafka-acls.sh calls them; who may read or write may describe too."""


@dataclass(frozen=True, slots=True)
class Right:
    """Operations on one resource, or on all whose names begin so.

    Attributes:
        kind: of the resource, as kafka-acls.sh has it.
        prefixed: whether ``name`` is how names begin.
    """

    kind: Literal["topic", "group", "transactional-id"]
    name: str
    operations: tuple[Operation, ...]
    prefixed: bool = False


def service_rights(
    config: Config,
    *,
    requests: Sequence[str],
    replies: Sequence[str],
    groups: Sequence[str] = (),
    stream: bool = False,
    commands: bool = False,
    batches: bool = False,
) -> list[Right]:
    """Of a service: it asks on its request topics, reads its reply topics, and says what it thought of answers.

    Args:
        requests: topics, of one tenant or of all; empty: the two standard ones. The feedback topic that goes with them
            is that of their tenant, else the standard one.
        replies: topics; empty: the standard one, which has the replies of all tenants that name no other.
        groups: beginnings of the names of its consumer groups.
        stream: whether it may read the pieces of answers, which are those of all tenants.
        commands: whether it may take requests back and invalidate answers, which it then may for everybody.
        batches: whether it may submit batches, and then see how far those of all tenants are; to take one back it needs
            ``commands`` too.

    Raises:
        ConfigError: a topic is not configured.
    """
    topics = config.kafka.topics
    requests = _known("request", requests, [one for lane in Lane for one in request_topics(config, lane)])
    replies = _known("reply", replies, [topics.replies, *config.kafka.reply_topics])
    bound = {config.request_topics[one].tenant if one in config.request_topics else None for one in requests}
    owned = [topic for topic, tenant in config.feedback_topics.items() if tenant in bound]
    return [
        *_each("topic", requests or [topics.requests, topics.requests_batch], "Write"),
        *_each("topic", owned if owned and None not in bound else [topics.feedback, *owned], "Write"),
        *_each("topic", [*(replies or [topics.replies]), *([topics.replies_stream] if stream else [])], "Read"),
        *([Right("topic", topics.control, ("Write",)), Right("topic", topics.events, ("Read",))] if commands else []),
        *([Right("topic", topics.batches, ("Read", "Write")), _batches(config)] if batches else []),
        *(Right("group", name, ("Read",), prefixed=True) for name in ("forebay-client-", *groups)),
    ]


def job_rights(config: Config) -> list[Right]:
    """Of the job. Nobody else writes tasks, but for a worker that hands one to another tier."""
    return [
        *_each("topic", topics_to_read(config), "Read"),
        *_each("topic", written_topics(config), "Write"),
        Right("group", config.kafka.topics.job_group, ("Read",)),
    ]


def worker_rights(config: Config, tiers: Sequence[str] = ()) -> list[Right]:
    """Of the workers of some tiers, else of all: they read their tasks, and hand to other tiers what they cannot
    answer, or not well enough.

    Raises:
        ConfigError: a tier is not configured.
    """
    topics = config.kafka.topics
    ladder = list(config.tiers)
    own = _known("tier", tiers, ladder) or ladder
    others = [tier for tier in ladder if any(tier != one for one in own)]
    tasks, handed_on = ([topics.tier(tier, lane) for tier in some for lane in Lane] for some in (own, others))
    told = [topics.results, topics.replies, *config.kafka.reply_topics, topics.audit, topics.replies_stream]
    return [
        *_each("topic", [*tasks, topics.control], "Read"),
        *_each("topic", [*handed_on, *told, topics.dead, topics.events], "Write"),
        *_each("group", [topics.workers_group(tier, lane) for tier in own for lane in Lane], "Read"),
        Right("transactional-id", f"{topics.prefix}-worker-", ("Write", "Describe"), prefixed=True),
    ]


def ledger_rights(config: Config) -> list[Right]:
    """Of the ledger: it reads all replies and feedback."""
    topics = config.kafka.topics
    read = [topics.replies, *config.kafka.reply_topics, topics.audit, *feedback_topics(config)]
    return [*_each("topic", read, "Read"), Right("group", f"{topics.prefix}-ledger", ("Read",))]


def operator_rights(config: Config) -> list[Right]:
    """Of whoever runs the commands and the controller of rollouts: all may be made, looked at and commanded."""
    topics = config.kafka.topics
    asked = [topic for lane in Lane for topic in request_topics(config, lane)]
    made = [spec.name for spec in topic_specs(config)]
    groups = [topics.job_group, *(topics.workers_group(tier, lane) for tier in config.tiers for lane in Lane)]
    return [
        *(Right("topic", name, ("Read", "Create", "DescribeConfigs")) for name in made),
        *_each("topic", [*asked, *feedback_topics(config), topics.control, topics.events, topics.batches], "Write"),
        _batches(config),
        *_each("group", groups, "Describe"),
        Right("group", "forebay-", ("Read",), prefixed=True),
    ]


def _batches(config: Config) -> Right:
    """To own batches, each of which has a transactional id of its own."""
    prefix = f"{config.kafka.topics.prefix}-batch_"
    return Right("transactional-id", prefix, ("Write", "Describe"), prefixed=True)


def kafka_acls(user: str, rights: Sequence[Right], bootstrap: str) -> Iterator[str]:
    """The commands that give rights to a user, as lines of a shell; those that differ only in names are one."""
    alike: dict[tuple[str, tuple[Operation, ...], bool], list[str]] = {}
    for right in rights:
        alike.setdefault((right.kind, right.operations, right.prefixed), []).append(right.name)
    for (kind, operations, prefixed), names in alike.items():
        words = [f"--operation {operation}" for operation in operations]
        words += [f"--{kind} '{name}'" for name in names] + (["--resource-pattern-type prefixed"] if prefixed else [])
        command = f"kafka-acls.sh --bootstrap-server {bootstrap} --command-config admin.properties"
        yield f"{command} --add --allow-principal 'User:{user}' {' '.join(words)}"


def bindings(user: str, rights: Sequence[Right]) -> list[AclBinding]:
    """The ACLs that are these rights of a user."""
    return [
        AclBinding(
            ResourceType[_KINDS[right.kind]],
            right.name,
            ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            AclOperation[_OPERATIONS[operation]],
            AclPermissionType.ALLOW,
        )
        for right in rights
        for operation in right.operations
    ]


def apply(config: Config, user: str, rights: Sequence[Right]) -> int:
    """Give rights to a user, besides those that it has; how many ACLs that are.

    Raises:
        ConfigError: the brokers have no authorizer, are away, or this user may not alter the cluster.
    """
    wanted = bindings(user, rights)
    admin = AdminClient(config.kafka.client() | {"log_level": 0})  # what fails is raised, not printed as well
    try:
        for future in admin.create_acls(wanted, request_timeout=_TIMEOUT_S).values():
            future.result()
    except KafkaException as error:
        raise ConfigError(f"the ACLs of {user} cannot be made: {_reason(error.args[0], config)}") from None
    return len(wanted)


_KINDS = {"topic": "TOPIC", "group": "GROUP", "transactional-id": "TRANSACTIONAL_ID"}
_OPERATIONS = {
    "Read": "READ",
    "Write": "WRITE",
    "Create": "CREATE",
    "Describe": "DESCRIBE",
    "DescribeConfigs": "DESCRIBE_CONFIGS",
}


def _reason(error: KafkaError, config: Config) -> str:
    if error.code() == KafkaError.SECURITY_DISABLED:
        return "the brokers ask nobody what they may; set authorizer.class.name there"
    if error.code() == KafkaError.CLUSTER_AUTHORIZATION_FAILED:
        return "this user may not alter the cluster; use one of the brokers' super.users"
    return f"{error.str()}; check kafka.bootstrap, {config.kafka.bootstrap}, and that the brokers run"


def _each(kind: Literal["topic", "group"], names: Sequence[str], operation: Operation) -> list[Right]:
    return [Right(kind, name, (operation,)) for name in dict.fromkeys(names)]


def _known(what: str, named: Sequence[str], there: Sequence[str]) -> Sequence[str]:
    for name in named:
        if name not in there:
            raise ConfigError(f"{name!r} is no {what} of this configuration; use one of {', '.join(there)}")
    return named
