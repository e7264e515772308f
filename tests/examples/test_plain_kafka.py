"""The examples that use a Kafka client and the .avsc files alone meet what the pipeline reads and writes."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from confluent_kafka import Producer
from forebay_schemas.codec import avro_folder
from forebay_schemas.config import Config
from forebay_schemas.records import Reply, ReplyError, Request
from forebay_schemas.validation import validate

from tests.builders import make_reply
from tests.waiting import eventually

from .stand_in import CODEC, StandIn

pytestmark = pytest.mark.stack

EXAMPLES = Path(__file__).parents[2] / "examples"
PYTHON, JAVA = EXAMPLES / "plain_kafka_python", EXAMPLES / "plain_kafka_java" / "ReplyConsumer.java"
OURS = ("forebay_schemas", "forebay_client", "forebay_jobs", "forebay_workers", "forebay_ops")


def python(script: str) -> list[str]:
    """A command that runs a script where nothing of ours can be imported."""
    path = PYTHON / script
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({OURS})); sys.path.insert(0, {str(PYTHON)!r});"
        f" runpy.run_path({str(path)!r}, run_name='__main__')"
    )
    return [sys.executable, "-c", code]


def python_consumer(config: Config) -> list[str]:
    kafka = config.kafka
    where = [kafka.bootstrap, "--topic", kafka.topics.replies, "--group", f"{kafka.topic_prefix}-plain"]
    return [*python("consume_replies.py"), str(avro_folder()), *where]


def java_consumer(config: Config) -> list[str]:
    compiler = shutil.which("javac")
    if compiler is None:
        pytest.skip("there is no JDK on the PATH, which runs a Java source file")
    jgo = pytest.importorskip("jgo", reason="jgo, which fetches jars, is not installed")
    coordinates = re.findall(r"^//DEPS (\S+)$", JAVA.read_text("utf-8"), re.MULTILINE)
    try:
        jars = [str(jar.resolve()) for jar in jgo.resolve("+".join(coordinates))]
    except (OSError, RuntimeError) as error:
        pytest.skip(f"{' and '.join(coordinates)} cannot be fetched: {error}")
    kafka = config.kafka
    java = [str(Path(compiler).parent / "java"), "-cp", ":".join(jars), str(JAVA)]
    return [*java, str(avro_folder()), kafka.bootstrap, kafka.topics.replies, f"{kafka.topic_prefix}-plain"]


class Transactions:
    """Writes replies as a worker does, all to one partition."""

    def __init__(self, config: Config) -> None:
        self._topic = config.kafka.topics.replies
        self._producer = Producer(config.kafka.client(transactional_id=f"{config.kafka.topic_prefix}-worker"))
        self._producer.init_transactions()

    def write(self, replies: Sequence[Reply], *, commit: bool = True) -> None:
        self._producer.begin_transaction()
        for reply in replies:
            self._producer.produce(self._topic, CODEC.encode(reply), "one key")
        self._producer.commit_transaction() if commit else self._producer.abort_transaction()


class Running:
    """A consumer that runs, and the lines that it has printed."""

    def __init__(self, command: Sequence[str]) -> None:
        self.lines: list[dict[str, Any]] = []
        # What runs in a shell's background has Ctrl-C ignored, and so has what it starts.
        heard = signal.signal(signal.SIGINT, signal.default_int_handler)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        signal.signal(signal.SIGINT, heard)
        self._reader = threading.Thread(target=self._follow)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def printed(self, count: int) -> list[dict[str, Any]]:
        """The lines, once there are so many."""
        eventually(lambda: len(self.lines) >= count or self._process.poll() is not None, f"{count} lines")
        return self.lines

    def stop(self) -> None:
        """End it as Ctrl-C does, and wait for its last lines."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        self._reader.join()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(map(json.loads, self._process.stdout))


@pytest.mark.parametrize("consumer", [python_consumer, java_consumer])
def test_a_consumer_prints_each_reply_once_whichever_version_wrote_it(
    config: Config, consumer: Callable[[Config], list[str]]
) -> None:
    replies = [
        make_reply(request_id="plain"),
        make_reply(request_id="failed", text="", error=ReplyError(code="engine_failed", message="-", retryable=True)),
        make_reply(request_id="of an arm", arm="terse@1760000000000"),
    ]
    assert len({value[:10] for value in map(CODEC.encode, replies)}) > 1
    command = consumer(config)
    transactions = Transactions(config)
    transactions.write([make_reply(request_id="aborted")], commit=False)
    transactions.write(replies)
    with Running(command) as first:
        assert first.printed(3) == [msgspec.to_builtins(reply) for reply in replies]
        first.stop()
    transactions.write([make_reply(request_id="later")])
    with Running(command) as second:
        second.printed(1)
        second.stop()
    assert [line["request_id"] for line in first.lines + second.lines] == ["plain", "failed", "of an arm", "later"]


def test_a_published_request_is_valid_and_answered(config: Config, pipeline: StandIn) -> None:
    asked = ["acme", "How do I reset my password?", "--topic", config.kafka.topics.requests]
    command = [*python("publish_request.py"), str(avro_folder()), config.kafka.bootstrap, *asked]
    request_id = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    [request] = eventually(lambda: pipeline.read(Request), "the request is read")
    validate(request, config)
    assert (request.request_id, request.tenant) == (request_id, "acme")
    headers = pipeline.headers(request_id)
    assert (headers.request_id, headers.tenant) == (request_id, "acme")
    with Running(python_consumer(config)) as replies:
        assert replies.printed(1)[0]["text"] == "How do I reset my password?"
