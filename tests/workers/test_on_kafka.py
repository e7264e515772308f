"""Workers as processes on a real broker: whoever comes, goes or dies, each task is answered, and read once."""

import asyncio
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from forebay_schemas.config import Config
from forebay_schemas.records import Lane, Reply, Result
from forebay_schemas.tiers import ModelConfig
from forebay_schemas.topic_probe import TopicProbe
from forebay_workers import intake, recent
from forebay_workers.lanes import Delivery, Room
from forebay_workers.loop import UNSEEN_ATTEMPT
from forebay_workers.offsets import Commit, Partition
from forebay_workers.recent import RecentTasks
from prometheus_client import Gauge

from ..broker import Broker
from ..builders import make_request, make_task
from ..provider import serving
from .doubles import CODEC
from .installation import Installation, with_own_topics

pytestmark = pytest.mark.stack

SETTINGS = """
[kafka]
reply_topics = ["acme.gone", "acme.narrow"]
[models.fake]
backend = "synthetic"
price = { input_per_1k = 0.001, output_per_1k = 0.002 }
[models.fake.synthetic]
latency_ms = 100
tokens = 8
concurrency = 16
crash_on = "poison"
[tiers.small]
complexity_up_to = 0.5
model = "fake"
max_tokens = 100
[tiers.large]
complexity_up_to = 1.0
model = "fake"
max_tokens = 100
[worker]
max_inflight = 24
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"), SETTINGS)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def own_config(broker: Broker) -> Config:
    return with_own_topics(broker.config)


@pytest.fixture
def installed(own_config: Config, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(own_config, tmp_path)
    yield installation
    installation.close()


@pytest.fixture
def generated() -> Counter[str]:
    """How often an answer to each request was asked of the model."""
    return Counter()


@pytest.fixture
def installed_counting(own_config: Config, tmp_path: Path, generated: Counter[str]) -> Iterator[Installation]:
    """Workers that ask a provider over HTTP, which counts."""

    def says(question: str, model: str) -> str:
        number = question.split()[-1]
        generated[f"r{number}"] += 1
        threading.Event().wait(0.05 + int(number) % 7 * 0.05)
        return "ok"

    with serving(says) as url:
        price = {"input_per_1k": 0, "output_per_1k": 0}
        provider = ModelConfig.model_validate(
            {"backend": "openai", "endpoint": {"url": url, "concurrency": 24}, "price": price}
        )
        installation = Installation(own_config.model_copy(update={"models": {"fake": provider}}), tmp_path)
        yield installation
        installation.close()


@pytest.fixture
def installed_slow(own_config: Config, tmp_path: Path) -> Iterator[Installation]:
    """Each generation takes longer than a consumer may leave its group alone."""
    fake = own_config.models["fake"]
    slow = fake.model_copy(update={"synthetic": fake.synthetic.model_copy(update={"latency_ms": 12_000})})
    patience = {"max.poll.interval.ms": "10000", "session.timeout.ms": "10000"}  # the one may not be below the other
    kafka = own_config.kafka.model_copy(update={"client_settings": patience})
    installation = Installation(own_config.model_copy(update={"kafka": kafka, "models": {"fake": slow}}), tmp_path)
    yield installation
    installation.close()


FAULTS = [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, None, signal.SIGKILL]
"""Each befalls once, and then those that chance draws; None: the broker dies and comes back."""


def traffic(installed: Installation, count: int) -> threading.Thread:
    """A steady load over both tiers and both lanes."""

    def send() -> None:
        for number in range(count):
            installed.send(number, "large" if number % 2 else "small", Lane.BATCH if number % 3 else Lane.INTERACTIVE)
            threading.Event().wait(0.005)
        installed.flush()

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_while_workers_come_and_go_each_task_is_answered_exactly_once(installed: Installation) -> None:
    installed.worker()
    load = traffic(installed, 1500)
    installed.replies_so_far(300)
    installed.worker("--tiers", "small")
    installed.worker()
    installed.replies_so_far(700)
    installed.workers[0].terminate()
    assert installed.workers[0].wait(30) == 0
    load.join()
    replies = installed.final_replies(1500)
    assert Counter(reply.request_id for reply in replies).most_common(1)[0][1] == 1
    assert all(reply.error is None and reply.synthetic for reply in replies)
    results = installed.read(installed.topics.results, lambda values: len(values) == 1500)
    assert {CODEC.decode(value, Result).task_id for value in results} == {f"t{number}" for number in range(1500)}


@pytest.mark.parametrize("seed", [7])
def test_whatever_befalls_workers_each_task_is_answered_once_and_no_answer_is_generated_again(
    installed_counting: Installation, generated: Counter[str], broker: Broker, seed: int
) -> None:
    installed, chance = installed_counting, random.Random(seed)
    installed.worker()
    installed.worker()
    with broker.attended():
        load = traffic(installed, 2000)
        answered_before: list[tuple[set[str], dict[str, int]]] = []
        for fault in range(8):
            replies = installed.replies_so_far(200 * (fault + 1))
            answered_before.append(({reply.request_id for reply in replies}, dict(generated)))
            living = [worker for worker in installed.workers if worker.poll() is None]
            victim = chance.choice(living)
            what = FAULTS[fault] if fault < len(FAULTS) else chance.choice(FAULTS)
            if what is None:
                broker.kill()
                broker.start()
                continue
            victim.send_signal(what)
            if what is signal.SIGSTOP:  # for longer than its group waits for it, while others do its work
                threading.Timer(12, victim.send_signal, [signal.SIGCONT]).start()
            installed.worker()
        load.join()
        replies = installed.final_replies(2000)
        assert len(replies) == 2000, "what is generated again was never published"
        assert {reply.error for reply in replies} == {None}, "no task is blamed for what befell its workers"
        for answered, counts in answered_before:
            again = {name for name in answered if generated[name] > counts[name]}
            assert not again, "what has a committed reply is never generated again"


def test_a_worker_that_was_stopped_while_others_did_its_work_publishes_nothing_of_it(installed: Installation) -> None:
    zombie = installed.worker()
    load = traffic(installed, 600)
    installed.replies_so_far(100)
    zombie.send_signal(signal.SIGSTOP)
    installed.worker()
    load.join()
    assert len(installed.final_replies(600)) == 600
    zombie.send_signal(signal.SIGCONT)
    for number in range(600, 700):
        installed.send(number)
    installed.flush()
    replies = installed.final_replies(700)
    assert len(replies) == 700
    assert {reply.error for reply in replies} == {None}
    assert zombie.poll() is None


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(
    installed_counting: Installation, generated: Counter[str], broker: Broker
) -> None:
    installed = installed_counting
    installed.worker()
    installed.worker()
    with broker.attended():
        load = traffic(installed, 1500)
        answered = {reply.request_id for reply in installed.replies_so_far(300)}
        before = dict(generated)
        broker.kill()
        broker.start()
        load.join()
        replies = installed.final_replies(1500)
        assert len(replies) == 1500
        assert {reply.error for reply in replies} == {None}
        assert [name for name in answered if generated[name] > before[name]] == []
        held = len(installed.workers) * len(Lane) * (installed.config.worker.max_inflight or 0)
        assert sum(generated.values()) <= 1500 + held, "at most what was not committed is generated again"
        assert all(worker.poll() is None for worker in installed.workers), "workers wait for their brokers"


def test_tasks_that_are_written_again_are_known_from_the_log_and_answered_once(installed: Installation) -> None:
    first = installed.worker()
    for number in range(50):
        installed.send(number)
    installed.flush()
    installed.replies(50)
    first.kill()
    first.wait()
    installed.worker()
    for number in range(60):  # a restored job has forgotten that it wrote the first fifty
        installed.send(number)
    installed.flush()
    assert len(installed.replies(60)) == 60


@pytest.mark.parametrize(("read_bytes", "known"), [(2**20, range(600, 601)), (60_000, range(20, 400))])
def test_who_takes_partitions_over_knows_their_newest_tasks_as_many_as_it_may_read(
    installed: Installation, monkeypatch: pytest.MonkeyPatch, read_bytes: int, known: range
) -> None:
    monkeypatch.setattr(recent, "READ_BYTES", read_bytes)
    for number in range(600):
        installed.send(number)
    installed.flush()
    tasks, ends = RecentTasks(), installed.ends()
    recent.read_back(installed.config.kafka, ends, tasks)
    noted = [n for n in range(600) if any(tasks.is_repeat(at, f"t{n}/0") for at in ends)]
    assert len(noted) in known
    assert noted[-1] == 599


def test_a_task_that_kills_its_workers_is_given_up_and_no_other_is_blamed(installed: Installation) -> None:
    for number in range(20):
        installed.send(number, about="poison" if number == 7 else "question")
    installed.flush()
    stop = threading.Event()

    def supervise() -> None:
        while not stop.is_set():
            installed.worker().wait()

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    try:
        replies = {reply.request_id: reply for reply in installed.replies(20)}
    finally:
        stop.set()
        installed.close()
        supervisor.join()
    failed = {request_id: reply.error.code for request_id, reply in replies.items() if reply.error}
    assert failed == {"r7": "given_up"}
    (letter,) = installed.dead_letters(1)
    assert (letter.request_id, letter.code, letter.attempts) == ("r7", "given_up", 3)
    assert letter.history == [f"attempt {number} {UNSEEN_ATTEMPT}" for number in (1, 2, 3)]


def test_records_that_cannot_be_read_are_passed_over_and_progress_goes_on(installed: Installation) -> None:
    worker = installed.worker()
    for value in (b"garbage", b"", CODEC.encode(make_task())[:-4], b"x" * 200_000):
        installed.produce(value)
    unchecked = make_request(
        request_id="r0", lane=Lane.BATCH, created_ms=round(time.time() * 1000), response_format="x"
    )
    installed.produce(CODEC.encode(make_task(unchecked, reply_topic=installed.topics.replies)), lane=Lane.BATCH)
    installed.send(1)
    installed.flush()
    letters = installed.dead_letters(4)
    assert Counter(letter.code for letter in letters) == {"not_avro": 3, "malformed": 1}
    assert max(len(letter.value) for letter in letters) < 100_000
    errors = {reply.request_id: reply.error and reply.error.code for reply in installed.replies(2)}
    assert errors == {"r0": "invalid_request", "r1": None}
    worker.terminate()
    assert worker.wait(30) == 0
    assert installed.committed() == 5


def test_a_reply_topic_that_is_gone_holds_up_the_others_no_longer(installed: Installation) -> None:
    installed.delete("acme.gone")
    installed.worker()
    for number in range(20):
        installed.send(number, to="acme.gone" if number % 10 == 3 else None)
    installed.flush()
    assert len(installed.replies(18)) == 18
    assert [letter.code for letter in installed.dead_letters(2)] == ["undeliverable"] * 2
    results = installed.read(installed.topics.results, lambda values: len(values) == 20)
    assert len({CODEC.decode(value, Result).task_id for value in results}) == 20


def test_a_reply_that_its_topic_does_not_take_holds_up_no_other(installed: Installation) -> None:
    installed.limit("acme.narrow", 100)
    installed.worker()
    for number in range(20):
        installed.send(number, to="acme.narrow" if number == 3 else None)
    installed.flush()
    try:
        assert len(installed.replies(19)) == 19
        assert [letter.code for letter in installed.dead_letters(1)] == ["undeliverable"]
    finally:
        installed.limit("acme.narrow", installed.config.kafka.max_wire_bytes)


def test_told_to_stop_a_worker_commits_what_it_has_begun(installed: Installation) -> None:
    worker = installed.worker()
    for number in range(1500):  # some 10 s of work
        installed.send(number)
    installed.flush()
    installed.replies_so_far(20)
    worker.terminate()
    assert worker.wait(30) == 0
    answered = {CODEC.decode(value, Reply).request_id for value in installed.read(installed.topics.replies, bool)}
    assert installed.committed() == len(answered) < 1500, "what was begun is done, and nothing else"
    installed.worker()
    assert len(installed.replies(1500)) == 1500, "nothing that was answered is answered again"


def test_generations_may_take_longer_than_a_group_waits_for_its_members(installed_slow: Installation) -> None:
    installed_slow.worker()
    for number in range(30):  # more than there is room for, and than are generated at once
        installed_slow.send(number)
    installed_slow.flush()
    assert len(installed_slow.replies(30)) == 30
    assert "MAXPOLL" not in installed_slow.log.read_text()
    assert installed_slow.committed() == 30


def test_a_tier_without_a_backend_is_a_mistake_that_says_what_to_do(installed: Installation) -> None:
    worker = installed.worker("--tiers", "huge")
    assert worker.wait(30) == 2
    assert "--tiers: 'huge' is no tier; use some of small, large" in installed.log.read_text()


class Holding:
    """An owner of an intake that finishes nothing."""

    def __init__(self) -> None:
        self.held: list[Delivery] = []
        self.partitions: set[Partition] = set()

    def assigned(self, commits: Mapping[Partition, Commit | None]) -> RecentTasks:
        self.partitions.update(commits)
        return RecentTasks()

    def full(self, partition: Partition) -> bool:
        return False

    def taken(self, delivery: Delivery) -> None:
        self.held.append(delivery)

    async def revoked(self, partitions: Collection[Partition]) -> None:
        self.partitions.difference_update(partitions)

    async def lost(self, partitions: Collection[Partition]) -> None: ...


def test_what_a_worker_has_no_room_for_is_its_lag(installed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LOOK_S", 0.1)
    lag = Gauge("lag", "Tasks.", registry=None)
    owner = Holding()
    for number in range(5):
        installed.send(number)
    installed.flush()

    async def read_two() -> None:
        kafka = installed.config.kafka
        source = intake.Intake(kafka, CODEC, "small", Lane.INTERACTIVE, Room(2), lag, TopicProbe(kafka))
        await source.open(owner)
        reading = asyncio.create_task(source.run())
        async with asyncio.timeout(60):
            while (len(owner.held), lag._value.get()) != (2, 3) and not reading.done():
                await asyncio.sleep(0.05)
        reading.cancel()
        await source.close()

    asyncio.run(read_two())
    assert (len(owner.held), lag._value.get()) == (2, 3)


def test_partitions_that_were_full_when_they_went_are_read_on_when_they_come_back(installed: Installation) -> None:
    kafka = installed.config.kafka
    lag = Gauge("lag", "Tasks.", registry=None)
    owner, room = Holding(), Room(4)
    for number in range(40):
        installed.send(number)
    installed.flush()

    async def until(condition: Callable[[], bool], reading: asyncio.Task[None]) -> None:
        async with asyncio.timeout(60):
            while not condition() and not reading.done():
                await asyncio.sleep(0.02)

    async def give_away_and_take_back() -> None:
        source = intake.Intake(kafka, CODEC, "small", Lane.INTERACTIVE, room, lag, TopicProbe(kafka))
        await source.open(owner)
        reading = asyncio.create_task(source.run())
        await until(lambda: len(owner.held) == 4, reading)
        assigned = len(owner.partitions)
        group = installed.topics.workers_group("small", Lane.INTERACTIVE)
        settings = {"partition_assignment_strategy": "cooperative-sticky", "enable_auto_commit": False}
        # It may leave without a word; the brokers give its partitions back when its session is over.
        other = Consumer(kafka.client(group_id=group, session_timeout_ms=6_000, **settings))
        other.subscribe([installed.topics.tier("small", Lane.INTERACTIVE)])

        while len(owner.partitions) == assigned:
            await asyncio.to_thread(other.poll, 0.1)  # serves its membership
        for _ in range(80):  # also for what is read again
            room.give_back(owner.held[0])
        await asyncio.to_thread(other.close)  # it may wait for a rebalance, which this loop serves
        await until(lambda: len({(one.partition, one.offset) for one in owner.held}) == 40, reading)
        reading.cancel()
        await source.close()

    asyncio.run(give_away_and_take_back())
    assert len({(one.partition, one.offset) for one in owner.held}) == 40
