"""Kafka by TLS, for Python's clients and the job's: they see whether a known authority signed for a broker's name, and
come in by each mechanism."""

import os
import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient  # pyright: ignore[reportPrivateImportUsage]
from forebay_jobs.kafka_access import java_access
from forebay_ops.local.home import Home
from forebay_ops.local.provision import CONNECTOR, jar_folder
from forebay_ops.local.servers import kafka_class_path
from forebay_schemas.section import TlsConfig
from forebay_schemas.sections import KafkaConfig
from py4j.protocol import Py4JJavaError
from pydantic import SecretStr

from tests.authority import Authority
from tests.broker import running
from tests.java import running_jvm
from tests.secure_broker import SecureBroker

_HOME = Home(Path(), installed=Path(__file__).parents[2] / ".forebay")


@contextmanager
def tls_server(context: ssl.SSLContext) -> Iterator[tuple[int, "queue.Queue[str | None]"]]:
    """Begins as a broker does; gives its port, and what becomes of each handshake: None, or what was wrong."""
    told: queue.Queue[str | None] = queue.Queue()

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as spoken:
                    # A client of TLS 1.3 tells afterwards what it thinks of the certificate.
                    told.put(None if spoken.recv(1) else "nothing came")
            except OSError as error:
                told.put(str(error))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], told
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "known")


def contexts(authority: Authority, folder: Path) -> dict[str, ssl.SSLContext]:
    """A server that is who it says, one that another authority knows, and one with somebody else's name."""
    return {
        "right": authority.server_context(),
        "unknown authority": Authority(folder / "unknown").server_context(),
        "another name": authority.server_context("elsewhere"),
    }


def reached(port: int, authority: Authority) -> KafkaConfig:
    tls = TlsConfig(ca_file=authority.ca_file).model_dump()
    return KafkaConfig.model_validate({"bootstrap": f"localhost:{port}", "security_protocol": "SSL", "tls": tls})


@pytest.mark.parametrize("who", ["right", "unknown authority", "another name"])
def test_pythons_clients_speak_to_nobody_else(who: str, authority: Authority, tmp_path: Path) -> None:
    with tls_server(contexts(authority, tmp_path)[who]) as (port, told):
        with pytest.raises(KafkaException):  # none of them is a broker
            AdminClient(reached(port, authority).client() | {"log_level": 0}).list_topics(timeout=2)
        assert (told.get(timeout=30) is None) == (who == "right")


@pytest.fixture(scope="module")
def jvm() -> Iterator[Any]:
    """With the job's Kafka in it."""
    jars = [str(jar) for jar in jar_folder(CONNECTOR, _HOME).glob("*.jar")]
    with running_jvm(os.pathsep.join([*jars, kafka_class_path(_HOME)])) as jvm:
        yield jvm


@contextmanager
def admin_of_the_job(jvm: Any, kafka: KafkaConfig, timeout_ms: int) -> Iterator[Any]:
    settings = jvm.java.util.Properties()
    for name, value in java_access(kafka).items():
        settings.put(name, value)
    settings.put("bootstrap.servers", kafka.bootstrap)
    settings.put("request.timeout.ms", str(timeout_ms))
    settings.put("default.api.timeout.ms", str(2 * timeout_ms))
    admin = jvm.org.apache.flink.kafka.shaded.org.apache.kafka.clients.admin.Admin.create(settings)
    try:
        yield admin
    finally:
        admin.close()


@pytest.mark.stack
@pytest.mark.parametrize("who", ["right", "unknown authority", "another name"])
def test_the_job_speaks_to_nobody_else(who: str, jvm: Any, authority: Authority, tmp_path: Path) -> None:
    with tls_server(contexts(authority, tmp_path)[who]) as (port, told):
        with admin_of_the_job(jvm, reached(port, authority), 2000) as admin, pytest.raises(Py4JJavaError):
            admin.listTopics().names().get()
        assert (told.get(timeout=30) is None) == (who == "right")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with running(SecureBroker(tmp_path_factory.mktemp("broker"))) as broker:
        yield broker


@pytest.mark.stack
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_both_come_in_by_each_mechanism(mechanism: str, jvm: Any, broker: SecureBroker) -> None:
    config = broker.config if mechanism == "PLAIN" else broker.as_user(f"user-of-{mechanism}", mechanism)
    assert config.kafka.sasl_mechanism == mechanism
    assert AdminClient(config.kafka.client()).list_topics(timeout=30).brokers
    with admin_of_the_job(jvm, config.kafka, 30_000) as admin:
        assert admin.describeCluster().nodes().get().size() == 1
    wrong = config.kafka.model_copy(update={"password": SecretStr("guessed")})
    with admin_of_the_job(jvm, wrong, 30_000) as admin, pytest.raises(Py4JJavaError, match="SaslAuthentication"):
        admin.describeCluster().nodes().get()
