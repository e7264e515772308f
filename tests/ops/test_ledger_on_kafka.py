"""`forebay ledger` on a real broker: killed whenever it may be, every reply and all feedback is in its files once."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # pyright: ignore[reportPrivateImportUsage]
from forebay_client import Client
from forebay_ops.ledger.folder import FEEDBACK, current_files
from forebay_ops.ledger.forgetting import Whom, forget
from forebay_ops.ledger.reading import undisturbed
from forebay_ops.local.effective import write_settings
from forebay_ops.topics import create_topics
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from prometheus_client.parser import text_string_to_metric_families

from tests.broker import Broker, make_anew, running_broker
from tests.builders import NOW_MS, make_feedback, make_reply

pytestmark = pytest.mark.stack

TIMEOUT_S = 60.0
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


class Installation:
    """Topics of one test, and the ledger on them."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self.topic = config.kafka.topics.replies
        self.progress = config.ledger.folder / "progress.json"
        self._log = folder / "ledger.log"
        self._file = folder / "forebay.toml"
        self._running: subprocess.Popen[bytes] | None = None
        write_settings(config, self._file)
        create_topics(config)

    def start(self) -> subprocess.Popen[bytes]:
        program = "from forebay_ops.cli import main; main()"
        with self._log.open("ab") as log:
            environment = os.environ | {"FOREBAY_CONFIG": str(self._file)}
            self._running = subprocess.Popen([sys.executable, "-c", program, "ledger"], env=environment, stderr=log)
        return self._running

    def send(self, numbers: range, topic: str | None = None, producer: Producer | None = None) -> None:
        """Replies that are spread over two days."""
        producer = producer or Producer(self.config.kafka.client())
        for number in numbers:
            reply = make_reply(request_id=f"r{number}", completed_ms=NOW_MS + number % 2 * DAY_MS)
            producer.produce(topic or self.topic, Codec().encode(reply), f"r{number}")
            producer.poll(0)
        producer.flush()

    def record(self, numbers: range) -> None:
        """Have replies written to the files by a ledger that is ended then."""
        process = self.start()
        self.send(numbers)
        self.until(lambda: len(self.rows()) >= len(numbers))
        process.terminate()
        process.wait()

    def rate(self, numbers: range) -> None:
        """Thumbs that are spread over two days."""
        with Client("acme", config=self.config) as client:
            for number in numbers:
                client.feedback(f"r{number}", "down", given_ms=NOW_MS + number % 2 * DAY_MS)

    def feedback(self) -> list[dict[str, Any]]:
        """What is in the files of the feedback now."""
        return self.rows(self.config.ledger.folder / FEEDBACK)

    def rows(self, folder: Path | None = None) -> list[dict[str, Any]]:
        """What is in the files now, those of the replies unless a folder is named."""
        root = folder or self.config.ledger.folder
        return undisturbed(
            root, lambda: [row for file in current_files(root) for row in pq.ParquetFile(file).read().to_pylist()]
        )

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < end, f"it has {len(self.rows())} rows:\n{self._log.read_text()}"
            threading.Event().wait(0.02)

    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        if self._running is not None:
            with contextlib.suppress(ProcessLookupError):
                self._running.kill()
            self._running.wait()


@pytest.fixture
def installed(broker: Broker, tmp_path: Path) -> Iterator[Installation]:
    prefix = f"t{uuid.uuid4().hex[:8]}"
    kafka = broker.config.kafka.model_copy(update={"topic_prefix": prefix, "reply_topics": [f"{prefix}.own"]})
    settings = {"folder": tmp_path / "ledger", "roll_rows": 40, "roll_s": 0.1, "retention_days": 100_000}
    ledger = broker.config.ledger.model_copy(update=settings)
    own = {"kafka": kafka, "ledger": ledger, "feedback_topics": {f"{prefix}.acme": "acme"}}
    installation = Installation(broker.config.model_copy(update=own), tmp_path)
    yield installation
    installation.close()


def once_each(rows: list[dict[str, Any]], numbers: range) -> None:
    ids = [row["request_id"] for row in rows]
    assert sorted(ids) == sorted(f"r{number}" for number in numbers)
    assert not any(row.get("repeat") for row in rows)


def test_whom_it_is_to_forget_it_takes_out_while_it_writes(installed: Installation) -> None:
    installed.start()
    installed.send(range(200))
    installed.until(lambda: len(installed.rows()) == 200)
    sending = threading.Thread(target=installed.send, args=(range(200, 2_000),))
    sending.start()
    forget(installed.config.ledger.folder, Whom(tenant="acme", user="nobody"), TIMEOUT_S, lambda _: None)
    sending.join()
    installed.until(lambda: len(installed.rows()) == 2_000)
    once_each(installed.rows(), range(2_000))
    forget(installed.config.ledger.folder, Whom(tenant="acme"), TIMEOUT_S, lambda _: None)
    assert installed.rows() == []
    installed.send(range(2_000, 2_010))
    installed.until(lambda: len(installed.rows()) == 10)


def test_killed_again_and_again_it_has_each_reply_and_all_feedback_once(installed: Installation) -> None:
    numbers = range(6000)
    sending = threading.Thread(target=installed.send, args=(numbers,))
    rating = threading.Thread(target=installed.rate, args=(numbers,))
    sending.start()
    rating.start()
    for reached in range(500, 5001, 500):  # wherever it is then: reading, writing, renaming
        process = installed.start()
        installed.until(lambda least=reached: len(installed.rows()) >= least)
        process.send_signal(signal.SIGKILL)
        process.wait()
    sending.join()
    rating.join()
    installed.start()
    installed.until(lambda: len(installed.rows()) >= len(numbers) <= len(installed.feedback()))
    once_each(installed.rows(), numbers)
    once_each(installed.feedback(), numbers)
    assert not list(installed.config.ledger.folder.rglob("*.unfinished"))


def test_told_to_stop_it_writes_what_it_has_read_and_the_next_one_goes_on(installed: Installation) -> None:
    process = installed.start()
    installed.send(range(100))
    installed.until(lambda: bool(installed.rows()))
    process.terminate()
    assert process.wait(TIMEOUT_S) == 0
    installed.send(range(100, 200))
    installed.start()
    installed.until(lambda: len(installed.rows()) >= 200)
    once_each(installed.rows(), range(200))


def test_replies_of_an_aborted_transaction_are_not_in_it(installed: Installation) -> None:
    producer = Producer(installed.config.kafka.client(transactional_id=uuid.uuid4().hex))
    producer.init_transactions()
    producer.begin_transaction()
    installed.send(range(100, 110), producer=producer)
    producer.abort_transaction()
    producer.begin_transaction()
    installed.send(range(10), producer=producer)
    producer.commit_transaction()
    installed.start()
    installed.until(lambda: len(installed.rows()) >= 10)
    once_each(installed.rows(), range(10))


def test_all_reply_topics_are_read_and_what_is_no_reply_is_passed_over(installed: Installation) -> None:
    producer = Producer(installed.config.kafka.client())
    producer.produce(installed.topic, b"garbage")
    installed.send(range(10), producer=producer)
    installed.send(range(10, 20), topic=installed.config.kafka.reply_topics[0])
    installed.start()
    installed.until(lambda: len(installed.rows()) >= 20)
    once_each(installed.rows(), range(20))
    assert "is passed over" in installed.log()


def test_feedback_counts_for_the_tenant_whose_topic_it_is_on(installed: Installation) -> None:
    """What one tenant writes about another's requests, on its own topic, is passed over; so is what is no feedback."""
    topic = f"{installed.config.kafka.topic_prefix}.acme"
    producer = Producer(installed.config.kafka.client())
    for value in (
        b"garbage",
        Codec().encode(make_feedback(tenant="globex", request_id="theirs")),
        Codec().encode(make_feedback(tenant="acme", request_id="own", user="ada", reason="outdated")),
    ):
        producer.produce(topic, value, partition=0)
    producer.flush()
    installed.start()
    installed.until(lambda: bool(installed.feedback()))
    [row] = installed.feedback()
    said = {"request_id": "own", "tenant": "acme", "verdict": "down", "source": "user", "user": "ada"}
    assert row.items() >= (said | {"reason": "outdated", "refined_by": None, "topic": topic, "offset": 2}).items()
    assert f"offset 1 is passed over: tenant: is 'globex', but the topic {topic} belongs to 'acme'" in installed.log()
    with urllib.request.urlopen(f"http://localhost:{installed.config.metrics.ledger_port}/metrics") as answer:
        metrics = answer.read().decode()
    assert 'forebay_feedback_total{source="user",verdict="down"} 1.0' in metrics


def test_its_lag_can_be_seen_as_that_of_any_group(installed: Installation) -> None:
    installed.send(range(50))
    installed.start()
    group = f"{installed.config.kafka.topic_prefix}-ledger"
    admin = AdminClient(installed.config.kafka.client())

    def committed() -> int:
        [future] = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
        return sum(place.offset for place in future.result().topic_partitions)

    installed.until(lambda: committed() == 50)


def test_its_metrics_tell_what_is_written_and_what_is_not_yet(installed: Installation) -> None:
    installed.start()
    installed.send(range(50))
    address = f"http://localhost:{installed.config.metrics.ledger_port}/metrics"

    def served() -> dict[str, float]:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as response:
            families = list(text_string_to_metric_families(response.read().decode()))
            return {sample.name: sample.value for family in families for sample in family.samples}
        return {}

    installed.until(lambda: served().get("forebay_ledger_replies_total") == 50)
    installed.until(lambda: served()["forebay_ledger_lag_records"] == 0)


def test_a_port_that_is_taken_is_told(installed: Installation) -> None:
    with socket.create_server(("0.0.0.0", installed.config.metrics.ledger_port)):
        assert installed.start().wait(TIMEOUT_S) == 1
    assert "metrics.ledger_port" in installed.log()


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(installed: Installation) -> None:
    installed.record(range(50))
    make_anew(installed.config, installed.topic)
    installed.send(range(50, 60))  # fewer than the ledger had read of the old one
    installed.start()
    installed.until(lambda: len(installed.rows()) >= 60)
    assert "was deleted and made anew; it is read from its beginning" in installed.log()
    once_each(installed.rows(), range(60))


def test_records_that_kafka_lost_are_told_of(installed: Installation) -> None:
    installed.record(range(50))
    make_anew(installed.config, installed.topic)
    progress = json.loads(installed.progress.read_text())
    installed.progress.write_text(json.dumps(progress | {"topic_ids": {}}))  # it is not known to be another one
    assert installed.start().wait(TIMEOUT_S) == 1
    assert "Kafka lost records of it" in installed.log()
    once_each(installed.rows(), range(50))


def test_partitions_that_are_added_are_read_from_their_beginning(installed: Installation) -> None:
    installed.record(range(10))
    admin = AdminClient(installed.config.kafka.client())
    [added] = admin.create_partitions([NewPartitions(installed.topic, 8)]).values()
    added.result()
    installed.until(lambda: len(admin.list_topics(installed.topic, timeout=10).topics[installed.topic].partitions) == 8)
    producer = Producer(installed.config.kafka.client())
    installed.send(range(10, 110), producer=producer)
    installed.start()
    installed.until(lambda: len(installed.rows()) >= 110)
    once_each(installed.rows(), range(110))
    assert {row["partition"] for row in installed.rows()} > set(range(4, 8))
