"""A batch on a real broker: 100,000 rows whose submitter is killed in the middle, again and again."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from forebay_client import Batch, BatchTakenOver
from forebay_client.batch import known_batches
from forebay_client.batch.log import StateLog
from forebay_ops.topics import create_topics
from forebay_schemas.batches import Stage
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.topics import REQUEST_ID

from tests.broker import Broker
from tests.waiting import eventually

from .batch_doubles import a_line, read_lines, write_lines

pytestmark = pytest.mark.stack

ROWS = 100_000
KILLS = 6
_SUBMIT = """
import sys
from forebay_client import Batch
from forebay_client.batch import sending

sending.PORTION_ROWS = 1_000
Batch.submit(sys.argv[1], "acme", told=lambda state: print(state.read, flush=True))
"""
_REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    folder = tmp_path_factory.mktemp("broker")
    broker = Broker(folder)
    broker.start()
    file = folder / "clients.toml"
    file.write_text(f'[kafka]\nbootstrap = "{broker.config.kafka.bootstrap}"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOREBAY_CONFIG", str(file))
        create_topics(broker.config)
        yield broker.config
    broker.kill()


@pytest.fixture
def answering(config: Config) -> Iterator[None]:
    command = [sys.executable, "-m", "forebay_ops.bench.answering", os.environ["FOREBAY_CONFIG"]]
    process = subprocess.Popen(command, cwd=_REPOSITORY)
    yield
    process.kill()
    process.wait()


def submitting(file: Path) -> "subprocess.Popen[str]":
    """A process that submits a file in many transactions, and prints after each how far it is."""
    command = [sys.executable, "-c", _SUBMIT, str(file)]
    return subprocess.Popen(command, cwd=_REPOSITORY, stdout=subprocess.PIPE, text=True)


def published(config: Config) -> Counter[str]:
    """How often each request was published, as whoever reads the lane sees it."""
    topic = config.kafka.topics.requests_batch
    settings = config.kafka.client(
        group_id="counting", enable_auto_commit=False, enable_partition_eof=True, isolation_level="read_committed"
    )
    consumer, found = Consumer(settings), Counter[str]()
    unread = set(range(config.kafka.partitions))
    consumer.assign([TopicPartition(topic, number, 0) for number in unread])
    while unread:
        for message in consumer.consume(5_000, 0.2):
            if (error := message.error()) is None:
                found[dict(message.headers() or ())[REQUEST_ID].decode()] += 1  # pyright: ignore
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition() or 0)
    consumer.close()
    return found


def rows_read() -> int:
    """How far the one batch is."""
    return next((state.read for state in known_batches()), 0)


def test_rows_whose_submitter_is_killed_are_sent_once_and_answered_once(
    config: Config, answering: None, tmp_path: Path
) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [a_line(f"row-{n}", f"Question {n}?") for n in range(ROWS)])
    dice, wanted, before = random.Random(7), 0, 0
    for _ in range(KILLS):
        wanted = before + dice.randrange(1, ROWS // 10)
        process = submitting(file)
        assert process.stdout is not None
        assert any(int(line) >= wanted for line in process.stdout)
        process.kill()  # while it publishes what comes next
        process.wait()
        before = rows_read()
    assert wanted <= before < ROWS, "killed in the middle"
    assert submitting(file).communicate()[0].split()[-1] == str(ROWS)
    counted = published(config)
    assert (len(counted), set(counted.values())) == (ROWS, {1})
    (state,) = known_batches()
    batch = Batch(state.batch_id, journals=tmp_path)
    assert batch.wait(120).phase == "completed"
    written = batch.results()
    assert [line["custom_id"] for line in read_lines(written.output)] == [f"row-{n}" for n in range(ROWS)]
    (tmp_path / f"{batch.batch_id}.sqlite").unlink()
    assert batch.status().answered == ROWS


def test_of_two_processes_with_one_batch_the_second_goes_on_alone(config: Config, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [a_line(f"row-{n}", f"Other {n}?") for n in range(20_000)])
    before = sum(published(config).values())
    second: list[Batch] = []

    def told(state: object) -> None:
        if not second:
            second.append(Batch.submit(file, "acme", config=config, journals=tmp_path))

    with pytest.raises(BatchTakenOver):
        Batch.submit(file, "acme", config=config, journals=tmp_path, told=told)
    assert second[0].state().stage == Stage.SENT
    assert sum(published(config).values()) - before == 20_000


def test_who_follows_batches_sees_each_as_soon_as_it_is_committed(config: Config, tmp_path: Path) -> None:
    with closing(StateLog(config, Codec())) as states:
        for name in ("one", "two", "three"):
            file = write_lines(tmp_path / f"{name}.jsonl", [a_line(name, "Fine?")])
            batch = Batch.submit(file, "follower", config=config, journals=tmp_path)
            assert states.read()[batch.batch_id].stage == Stage.SENT


def test_ctrl_c_twice_leaves_what_was_sent_and_nothing_half_sent(config: Config, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [a_line(f"row-{n}", f"Another {n}?") for n in range(20_000)])
    before = published(config)
    command = [sys.executable, "-m", "forebay_ops.cli", "batch", "submit", str(file), "--tenant", "rival"]
    # Python's own handler, also where a test run ignores the signal.
    process = subprocess.Popen(
        command, cwd=_REPOSITORY, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    eventually(lambda: any(state.tenant == "rival" for state in known_batches()), "the first rows are sent")
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) in (0, 130)
    assert subprocess.run(command, cwd=_REPOSITORY, check=False).returncode == 0
    counted = published(config) - before
    assert (len(counted), set(counted.values())) == (20_000, {1})
