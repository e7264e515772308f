"""A pool that says what the test wants, on the test's clock, and tiers of three prices for it."""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forebay_schemas.records import Reply, Task, Usage
from forebay_workers.answer import Answerer, Retry, Wait
from forebay_workers.backends import CutShort, Generation, GenerationRequest, OnText
from forebay_workers.lanes import Delivery
from forebay_workers.outcome import Outcome

from ..builders import NOW_MS
from .doubles import CODEC, configured

SETTINGS = """
[models.model]
backend = "synthetic"
price = { input_per_1k = 0.001, cached_input_per_1k = 0.0, output_per_1k = 0.002 }
[models.standby]
backend = "synthetic"
price = { input_per_1k = 0.1, output_per_1k = 0.2 }
[models.middle]
backend = "synthetic"
price = { input_per_1k = 0.005, output_per_1k = 0.01 }
[models.big]
backend = "synthetic"
price = { input_per_1k = 0.01, output_per_1k = 0.02 }
[tiers.small]
complexity_up_to = 0.3
model = "model"
standby = ["standby"]
max_tokens = 100
[tiers.medium]
complexity_up_to = 0.7
model = "middle"
max_tokens = 100
[tiers.large]
complexity_up_to = 1.0
model = "big"
max_tokens = 100
[kafka]
reply_topics = ["acme.replies"]
"""
USAGE = Usage(prompt_tokens=1000, cached_prompt_tokens=400, completion_tokens=10)
SMALL_COST = (600 * 0.001 + 10 * 0.002) / 1000
"""Of ``USAGE`` on the small tier, interactive."""


def saying(text: str = "Paris.", **fields: Any) -> Generation:
    """An answer of the small tier's model."""
    return Generation(**{"text": text, "finish_reason": "stop", "model_id": "model", "usage": USAGE, **fields})


class Saying:
    """A pool that says one thing after another, the last one again and again, or raises it; 40 ms for each."""

    def __init__(self) -> None:
        self.says: Sequence[Generation | Exception | CutShort | float] = [saying()]
        """A number: it takes so many seconds, and says nothing. ``CutShort`` is raised when it is cancelled."""
        self.asked: list[GenerationRequest] = []
        self.takes = 8
        self.now_ms = NOW_MS + 100.0

    def takes_for(self, model: str | None) -> int:
        return self.takes

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        self.asked.append(request)
        self.now_ms += 40
        says = self.says[min(len(self.asked), len(self.says)) - 1]
        if isinstance(says, float):
            await (asyncio.get_running_loop().create_future() if math.isinf(says) else asyncio.sleep(says))
        if isinstance(says, CutShort):
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                raise says from None
        if isinstance(says, Exception):
            raise says
        assert isinstance(says, Generation)
        if on_text is not None:
            for word in says.text.split():
                on_text(word)
        return says


class Answering:
    """An answerer with its pool; ``more`` is added to the settings."""

    def __init__(self, path: Path, more: str = "") -> None:
        self.pool = Saying()
        self.config = configured(SETTINGS + more, path)
        self.answerer = Answerer(self.config, CODEC, now_ms=lambda: self.pool.now_ms)

    def answer(self, delivery: Delivery, attempt: int = 1, on_text: OnText | None = None) -> Outcome | Retry | Wait:
        delivery.attempts = attempt
        return asyncio.run(self.answerer.answer(delivery, self.pool, on_text))

    def give_up(self, delivery: Delivery, history: Sequence[str] = ("attempt 1 ended",)) -> Outcome:
        delivery.attempts, delivery.history = len(history), list(history)
        return self.answerer.give_up(delivery)

    def outcome(self, delivery: Delivery) -> Outcome:
        outcome = self.answer(delivery)
        assert isinstance(outcome, Outcome)
        return outcome

    def reply(self, delivery: Delivery) -> Reply:
        return reply_of(self.outcome(delivery))


def reply_of(outcome: Outcome) -> Reply:
    return CODEC.decode(outcome.records[0].value, Reply)


def task_of(outcome: Outcome) -> Task:
    (record,) = outcome.records
    return CODEC.decode(record.value, Task)
