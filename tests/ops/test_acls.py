"""What each role may do on the brokers: asked of Kafka's own authorizer, and tried."""

# pyright: reportPrivateImportUsage=false
# confluent_kafka.admin documents these names, and does not list them in __all__.

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jgo
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from forebay_client import Batch, Client
from forebay_client.errors import BrokerUnavailable
from forebay_ops import acls
from forebay_ops.cli.acls import acls as command
from forebay_ops.local.provision import KAFKA
from forebay_ops.local.servers import java_home, kafka_class_path
from forebay_ops.topics import create_topics, topic_specs
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ConfigError
from forebay_schemas.records import Hop
from forebay_workers.escalation import UNAVAILABLE, neighbour

from tests.broker import running
from tests.builders import make_request
from tests.secure_broker import SecureBroker
from tests.waiting import eventually
from tests.workers.doubles import configured

FILE = Path(__file__).parents[2] / "ops" / "kafka" / "acls.sh"
SETTINGS = """
[request_topics."shop.requests"]
tenant = "shop"
[feedback_topics]
"shop.feedback" = "shop"
[kafka]
reply_topics = ["shop.replies"]
"""
SERVED = """
[models.model]
backend = "synthetic"
price = { input_per_1k = 1.0, output_per_1k = 1.0 }
[tiers]
small = { complexity_up_to = 0.3, model = "model", max_tokens = 9 }
medium = { complexity_up_to = 0.7, model = "model", max_tokens = 9 }
large = { complexity_up_to = 1.0, model = "model", max_tokens = 9 }
"""


def test_the_file_of_acls_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOREBAY_HOME", str(tmp_path))
    monkeypatch.delenv("FOREBAY_CONFIG", raising=False)
    printed = CliRunner().invoke(command, [])
    assert printed.exit_code == 0, printed.output
    head, _, rest = FILE.read_text().partition("\n\n")
    assert rest == printed.stdout, f"`forebay acls` says otherwise; write {FILE.name} anew as its head says"
    assert all(line.startswith("#") for line in head.splitlines())
    subprocess.run(["sh", "-n", str(FILE)], check=True)


@pytest.mark.parametrize("tier", ["small", "medium", "large"])
def test_a_worker_may_write_tasks_of_every_tier_that_it_hands_them_to(tier: str, tmp_path: Path) -> None:
    config = configured(SERVED, tmp_path)
    asked: set[str] = set()
    path: list[Hop] = []
    while (other := neighbour(tier, make_request(), path, config)) is not None:
        asked.add(other)
        path.append(Hop(tier=other, model_id="", reason=UNAVAILABLE))
    writes = {right.name for right in acls.worker_rights(config, [tier]) if "Write" in right.operations}
    assert {name for name in writes if name.startswith("llm.tier.")} == _tasks(*asked)
    assert len(asked) == 2


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with running(SecureBroker(tmp_path_factory.mktemp("broker"), SETTINGS)) as broker:
        create_topics(broker.config)
        yield broker


@pytest.fixture(scope="module")
def users(broker: SecureBroker) -> dict[str, Config]:
    """By name, each with the rights of its role."""
    config = broker.config
    rights = {
        "service": acls.service_rights(config, requests=(), replies=()),
        "shop": acls.service_rights(config, requests=["shop.requests"], replies=["shop.replies"], groups=["shop-"]),
        "commander": acls.service_rights(config, requests=(), replies=(), commands=True, stream=True),
        "nightly": acls.service_rights(config, requests=(), replies=(), batches=True),
        "job": acls.job_rights(config),
        "small": acls.worker_rights(config, ["small"]),
        "large": acls.worker_rights(config, ["large"]),
        "ledger": acls.ledger_rights(config),
        "operator": acls.operator_rights(config),
    }
    made = {user: broker.as_user(user) for user in (*rights, "nobody")}
    for user, theirs in rights.items():
        assert acls.apply(config, user, theirs) >= len(theirs)
    return made


def _topics_with(operation: AclOperation, config: Config) -> set[str]:
    """The topics on which the authorizer lets this user do something."""
    admin = AdminClient(config.kafka.client() | {"log_level": 0})
    names = TopicCollection([spec.name for spec in topic_specs(config)])
    found: set[str] = set()
    for name, future in admin.describe_topics(names, include_authorized_operations=True).items():
        refusal = future.exception()
        if refusal is not None:
            assert refusal.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        elif operation in (future.result().authorized_operations or ()):
            found.add(name)
    return found


def _tasks(*tiers: str) -> set[str]:
    return {f"llm.tier.{tier}{lane}" for tier in tiers for lane in ("", ".batch")}


_ASKED = {"llm.requests", "llm.requests.batch"}
_REPLIES = {"llm.replies", "shop.replies"}
_ALL_ASKED = {*_ASKED, "shop.requests", "llm.feedback", "shop.feedback"}
_FROM_WORKERS = {*_REPLIES, "llm.results", "llm.audit", "llm.replies.stream", "llm.requests.dead", "llm.events"}
_FROM_JOB = {*_FROM_WORKERS - {"llm.results"}, "llm.control", *_tasks("small", "medium", "large")}
WRITES = {
    "service": {*_ASKED, "llm.feedback"},
    "shop": {"shop.requests", "shop.feedback"},
    "commander": {*_ASKED, "llm.feedback", "llm.control"},
    "job": _FROM_JOB,
    "small": {*_FROM_WORKERS, *_tasks("medium", "large")},
    "large": {*_FROM_WORKERS, *_tasks("small", "medium")},
    "ledger": set[str](),
    "nightly": {*_ASKED, "llm.feedback", "llm.batches"},
    "operator": {*_ALL_ASKED, "llm.control", "llm.events", "llm.batches"},
    "nobody": set[str](),
}
READS = {
    "service": {"llm.replies"},
    "shop": {"shop.replies"},
    "commander": {"llm.replies", "llm.replies.stream", "llm.events"},
    "job": {*_ALL_ASKED, "llm.results", "llm.control"},
    "small": {*_tasks("small"), "llm.control"},
    "large": {*_tasks("large"), "llm.control"},
    "ledger": {*_REPLIES, "llm.audit", "llm.feedback", "shop.feedback"},
    "nightly": {"llm.replies", "llm.batches"},
    "operator": {*_ALL_ASKED, *_FROM_JOB, "llm.results", "llm.batches"},
    "nobody": set[str](),
}


@pytest.mark.stack
@pytest.mark.parametrize("user", WRITES)
def test_each_role_reads_and_writes_its_topics_and_no_other(users: dict[str, Config], user: str) -> None:
    assert _topics_with(AclOperation.WRITE, users[user]) == WRITES[user]
    assert _topics_with(AclOperation.READ, users[user]) == READS[user]


@pytest.mark.stack
def test_kafkas_own_command_takes_the_file_and_makes_the_same_of_it(broker: SecureBroker, tmp_path: Path) -> None:
    config = broker.config
    (tmp_path / "admin.properties").write_text(broker.admin_properties())
    (tmp_path / "acls.sh").write_text(FILE.read_text().replace("localhost:9092", config.kafka.bootstrap))
    tool = tmp_path / "kafka-acls.sh"
    tool.write_text(f'#!/bin/sh\nexec {" ".join(_acl_command(broker))} "$@"\n')
    tool.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", "-e", "acls.sh"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    of_installation = load_config()  # the file is that of one as it is
    roles = {
        "forebay-service": acls.service_rights(of_installation, requests=(), replies=()),
        "forebay-job": acls.job_rights(of_installation),
        "forebay-worker": acls.worker_rights(of_installation),
        "forebay-ledger": acls.ledger_rights(of_installation),
        "forebay-operator": acls.operator_rights(of_installation),
    }
    for user, rights in roles.items():
        assert set(_given(config, user)) == set(acls.bindings(user, rights))


def _acl_command(broker: SecureBroker) -> list[str]:
    """What kafka-acls.sh of Kafka's distribution runs; its jars are no part of the broker's."""
    version = KAFKA.folder.removeprefix("kafka-")
    tools = jgo.resolve(f"org.apache.kafka:kafka-tools:{version}")[0].resolve()
    path = f"{kafka_class_path(broker.home)}{os.pathsep}{tools}"
    quick = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    return [f"{java_home()}/bin/java", quick, f"-cp '{path}'", "org.apache.kafka.tools.AclCommand"]


def _given(config: Config, user: str) -> list[AclBinding]:
    """The ACLs of a user that the brokers tell of."""
    anything: Any = None
    theirs = AclBindingFilter(
        ResourceType.ANY,
        anything,
        ResourcePatternType.ANY,
        f"User:{user}",
        anything,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    admin = AdminClient(config.kafka.client())
    return admin.describe_acls(theirs).result()


@pytest.mark.stack
def test_a_service_can_ask_and_can_write_no_task(users: dict[str, Config]) -> None:
    with Client("acme", config=users["service"]) as client:
        client.publish("How do I return a parcel?")
        client.feedback("r1", "down")
    errors: list[KafkaError | None] = []
    producer = Producer(users["service"].kafka.client())
    producer.produce("llm.tier.small", b"forged", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    assert [error and error.code() for error in errors] == [KafkaError.TOPIC_AUTHORIZATION_FAILED]


@pytest.mark.stack
def test_only_who_is_given_batches_submits_one(users: dict[str, Config], tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text("text\nfine\n")
    batch = Batch.submit(file, "acme", template="Good? {text}", config=users["nightly"], journals=tmp_path)
    assert batch.status().state.sent == 1
    with pytest.raises(BrokerUnavailable, match="may not use"):
        Batch.submit(file, "acme", template="Bad? {text}", config=users["service"], journals=tmp_path)


@pytest.mark.stack
def test_the_replies_of_another_tenant_are_refused_with_what_to_do(users: dict[str, Config]) -> None:
    with (
        Client("acme", config=users["shop"]) as client,
        pytest.raises(BrokerUnavailable, match=r"may not use llm\.replies"),
    ):
        next(iter(client.replies(group="shop-billing")))


@pytest.mark.stack
def test_a_worker_cannot_take_the_tasks_of_another_tier(users: dict[str, Config]) -> None:
    consumer = Consumer(users["small"].kafka.client(group_id="llm-workers-large"))
    consumer.assign([TopicPartition("llm.tier.large", 0, 0)])
    refused: set[int] = set()

    def told() -> bool:
        if message := consumer.poll(0.5):
            error = message.error()
            assert error is not None, "a task was read"
            refused.add(error.code())
        return KafkaError.TOPIC_AUTHORIZATION_FAILED in refused

    eventually(told, "the topic is refused")  # its group may be sooner
    consumer.close()


@pytest.mark.stack
def test_an_operator_makes_topics_that_are_missing_and_no_acls(users: dict[str, Config]) -> None:
    operator = users["operator"]
    assert len(create_topics(operator).kept) == len(topic_specs(operator))
    with pytest.raises(ConfigError, match=r"may not alter the cluster; use one of the brokers' super\.users"):
        acls.apply(operator, "operator", acls.job_rights(operator))


@pytest.mark.stack
def test_a_wrong_password_is_no_way_in(broker: SecureBroker, users: dict[str, Config]) -> None:
    stolen = users["job"].kafka.model_copy(update={"user": "admin"})
    with pytest.raises(KafkaException):
        AdminClient(stolen.client() | {"log_level": 0}).list_topics(timeout=5)
