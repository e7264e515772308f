"""Workers as processes on a real broker, whose provider has batches: one that is killed leaves nothing to pay twice."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from forebay_schemas.records import Lane
from forebay_schemas.tiers import ModelConfig

from ..broker import Broker
from ..provider import serving
from ..provider_batches import Batches
from ..waiting import eventually
from .installation import Installation, with_own_topics

pytest.importorskip("openai")
pytestmark = pytest.mark.stack

COUNT = 400
IN_BATCH = (12 + 8) / 1000 / 2
SETTINGS = """
[models.provider]
backend = "openai"
endpoint = { url = "http://localhost:1/v1" }
price = { input_per_1k = 1.0, output_per_1k = 1.0, batch_factor = 0.5 }
[tiers.small]
complexity_up_to = 1.0
model = "provider"
max_tokens = 100
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"), SETTINGS)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def provider() -> Batches:
    return Batches()


@pytest.fixture
def called() -> Counter[str]:
    """How often each question was answered, in a batch or directly."""
    return Counter()


@pytest.fixture
def installed(broker: Broker, tmp_path: Path, provider: Batches, called: Counter[str]) -> Iterator[Installation]:
    lock = threading.Lock()

    def says(question: str, model: str) -> str:
        with lock:
            called[question] += 1
        return f"answer to {question}"

    with serving(says, provider) as url:
        settings = broker.config.models["provider"].model_dump(exclude_unset=True)
        settings["endpoint"] = {
            "url": url,
            "batch_api": True,
            "batches": {"gather_s": 1, "max_tasks": 100, "poll_s": 1},
        }
        config = with_own_topics(broker.config)
        models = {"provider": ModelConfig.model_validate(settings)}
        installation = Installation(config.model_copy(update={"models": models}), tmp_path)
        yield installation
        installation.close()


def test_a_killed_workers_batches_are_found_and_each_task_is_answered_and_paid_for_once(
    installed: Installation, provider: Batches, called: Counter[str]
) -> None:
    def in_batches() -> int:
        return sum(len(batch.lines) for batch in list(provider.made))

    for number in range(COUNT):
        installed.send(number, lane=Lane.BATCH)
    installed.flush()
    killed = installed.worker()
    eventually(lambda: in_batches() >= COUNT // 2, "half of the tasks in batches")
    killed.kill()
    left = installed.worker()
    eventually(lambda: in_batches() == COUNT, "all tasks in batches")
    provider.end(provider.made[0])
    installed.replies_so_far(1)
    installed.worker()
    left.terminate()
    assert left.wait(30) == 0
    for batch in provider.made[1:]:
        provider.end(batch)
    replies = installed.final_replies(COUNT)
    assert len(replies) == COUNT
    assert {reply.request_id: reply.text for reply in replies} == {
        f"r{number}": f"answer to question {number}" for number in range(COUNT)
    }
    assert [reply.cost for reply in replies] == pytest.approx([IN_BATCH] * COUNT)
    assert len(called) == COUNT
    assert set(called.values()) == {1}, "no question is paid for twice"
