"""The life of one task: read, checked against the clock, generated, told."""

import logging
import time
from collections.abc import Callable

from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode, InvalidRequest, RecordError
from forebay_schemas.records import Request, Task
from forebay_schemas.validation import expired

from .backends import EngineDead, GenerationError, ModelBackend
from .generation import generation_request
from .lanes import Delivery
from .outcome import Outcome, Outcomes, Timing, Work

_log = logging.getLogger(__name__)


def wall_clock_ms() -> float:
    """Milliseconds since the epoch."""
    return time.time() * 1000


class Answerer:
    """Turns deliveries into outcomes. Whatever a record holds, there is an outcome for it."""

    def __init__(self, config: Config, codec: Codec, now_ms: Callable[[], float] = wall_clock_ms) -> None:
        self._config = config
        self._codec = codec
        self._now_ms = now_ms
        self._outcomes = Outcomes(config, codec)
        self._reply_topics = {config.kafka.topics.replies, *config.kafka.reply_topics}

    async def answer(self, delivery: Delivery, backend: ModelBackend) -> Outcome:
        """Answer one delivery; cancelling stops its generation.

        Raises:
            EngineDead: no delivery can be answered any more.
        """
        started_ms = self._now_ms()
        try:
            work = self._open(delivery, backend)
        except RecordError as error:
            return self._outcomes.dead(delivery, error, started_ms)
        if expired(work.request, int(started_ms)):
            message = "the deadline passed while the request waited for its model; allow more time"
            return self._failed(work, ErrorCode.DEADLINE_EXCEEDED, message, started_ms)
        try:
            tier = self._config.tiers[delivery.tier]
            generation = await backend.generate(generation_request(work.task.task_id, work.request, tier))
            return self._outcomes.answered(work, generation, Timing(started_ms, self._now_ms()))
        except GenerationError as error:
            return self._failed(work, error.code, str(error), started_ms)
        except EngineDead:
            raise
        except Exception as error:  # one request must never end the worker, whatever it does to a library
            _log.error("task %s failed unexpectedly: %s", work.task.task_id, _place(error))
            message = f"{backend.model_id} failed unexpectedly ({type(error).__name__})"
            return self._failed(work, ErrorCode.ENGINE_FAILED, message, started_ms)

    def _open(self, delivery: Delivery, backend: ModelBackend) -> Work:
        task = self._codec.decode(delivery.value, Task)
        if task.reply_topic not in self._reply_topics:
            raise InvalidRequest(
                "reply_topic", f"{task.reply_topic!a} is not allowed", "name it under kafka.reply_topics"
            )
        return Work(delivery, task, self._codec.decode(task.request, Request), backend)

    def _failed(self, work: Work, code: ErrorCode, message: str, started_ms: float) -> Outcome:
        return self._outcomes.failed(work, code, message, Timing(started_ms, self._now_ms()))


def _place(error: Exception) -> str:
    """Where an error arose. Its text is left out: it may quote a prompt."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    return f"{type(error).__name__} at {where}"
