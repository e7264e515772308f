"""The life of one task: read, checked against the clock, generated, judged, told or handed on."""

import asyncio
import hashlib
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from forebay_schemas.canonical import category_of
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode, InvalidRequest, RecordError
from forebay_schemas.records import Hop, Lane, Request, Task
from forebay_schemas.tracing import tracing_for

from . import traces
from .arms import ArmConfigs
from .backends import (
    BatchLine,
    CutShort,
    EngineDead,
    Generation,
    GenerationError,
    GenerationRequest,
    NotInBatch,
    OnText,
    Unavailable,
)
from .escalation import INVALID_JSON, UNAVAILABLE, escalations, neighbour, reason_to_go_on, tier_above
from .generation import generation_request, once_more
from .lanes import Delivery
from .outcome import Outcome, Outcomes, Work, bounded
from .windows import Window

_log = logging.getLogger(__name__)

ASK_AGAIN_S = 0.5
"""How often a model that cannot be reached is asked again, or whether it may be."""
_LINE_ID_CHARS = 32
"""Of 128 bits no two tasks share all."""
_HOPELESS = "the deadline leaves too little time, and others wait for the model too; ask later, or allow more time"
_LATE = "the {} passed while the request waited for its model; allow more time"


class Generator(Protocol):
    """What answers the tasks of a tier; see ``backends.pool.Pool``."""

    def takes_for(self, model: str | None) -> int: ...

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation: ...


@dataclass(frozen=True, slots=True)
class Retry:
    """An attempt failed in a way that another one may not: there is no outcome yet."""

    reason: str
    """For the history of a task that is given up; at most ``outcome.ERROR_CHARS`` and a few."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The model is left alone for a while, or no batch answers in time: the attempt was none, and the task waits to be
    generated."""


def wall_clock_ms() -> float:
    """Milliseconds since the epoch."""
    return time.time() * 1000


class Answerer:
    """Turns deliveries into outcomes. Whatever a record holds, there is an outcome for it."""

    def __init__(self, config: Config, codec: Codec, now_ms: Callable[[], float] = wall_clock_ms) -> None:
        self._config = config
        self._codec = codec
        self._now_ms = now_ms
        self.arms = ArmConfigs(config)
        self._outcomes = Outcomes(config, codec)
        self._tracing = tracing_for(config, "worker")
        topics = config.kafka.topics
        self._reply_topics = {topics.replies, topics.audit, *config.kafka.reply_topics}

    async def answer(
        self, delivery: Delivery, pool: Generator, on_text: OnText | None = None
    ) -> Outcome | Retry | Wait:
        """Answer one delivery, or hand it to another tier; cancelling stops its generation.

        Args:
            on_text: told the answer piece by piece. JSON comes in one piece: it is checked first, and pieces that
                were told cannot be taken back.

        Raises:
            EngineDead: no delivery can be answered any more.
        """
        try:
            work = self._open(delivery)
        except RecordError as error:
            return self._outcomes.dead(delivery, error, self._now_ms())
        try:
            return await self._answer(work, pool, on_text)
        except EngineDead:
            raise
        except Exception as error:  # one request must never end the worker, whatever it does to a library
            _log.error("task %s failed unexpectedly: %s", work.task.task_id, _place(error))
            return Retry(f"the worker failed unexpectedly ({type(error).__name__})")

    def give_up(self, delivery: Delivery) -> Outcome:
        """The outcome of a task on which no further attempt is made; its history has at least one line."""
        return self._without_generating(delivery, self._outcomes.given_up)

    @property
    def dead_letters(self) -> str:
        """The topic of what cannot be told to its asker."""
        return self._config.kafka.topics.dead

    def undeliverable(self, delivery: Delivery, outcome: Outcome, refused: Mapping[str, str]) -> Outcome:
        """What is published of an outcome of which the brokers refuse some records for good.

        Args:
            refused: by topic, the brokers' reason.
        """
        return self._without_generating(
            delivery, lambda work, ms: self._outcomes.undeliverable(work, outcome, refused, ms)
        )

    def cancelled(self, delivery: Delivery) -> Outcome:
        """The outcome of a task whose answer nobody wants any more; what was generated for it is charged."""
        message = "the request was cancelled"
        return self._without_generating(
            delivery,
            lambda work, ms: self._outcomes.failed(work, ErrorCode.CANCELLED, message, ms, delivery.cut_short),
        )

    def is_late(self, delivery: Delivery) -> bool:
        """Whether the answer to a task that waits is of no use any more."""
        return delivery.request is not None and self._end(delivery.request, delivery.lane)[0] <= self._now_ms()

    def late(self, delivery: Delivery) -> Outcome:
        """The outcome of a task that waited for too long."""

        def outcome(work: Work, ms: float) -> Outcome:
            message = _LATE.format(self._end(work.request, delivery.lane)[1])
            return self._outcomes.failed(work, ErrorCode.DEADLINE_EXCEEDED, message, ms)

        return self._without_generating(delivery, outcome)

    def hopeless(self, delivery: Delivery) -> Outcome:
        """The outcome of a task that has too little time left while others want its model."""
        return self._without_generating(
            delivery, lambda work, ms: self._outcomes.failed(work, ErrorCode.DEADLINE_EXCEEDED, _HOPELESS, ms)
        )

    def _without_generating(self, delivery: Delivery, outcome: Callable[[Work, float], Outcome]) -> Outcome:
        now_ms = self._now_ms()
        try:
            return outcome(self._open(delivery), now_ms)
        except RecordError as error:
            return self._outcomes.dead(delivery, error, now_ms)
        except Exception as error:  # it cannot be told to its asker, and must not end the worker
            _log.error("task %s cannot be told to its asker: %s", delivery.name, _place(error))
            problem = RecordError(ErrorCode.INTERNAL, f"the worker cannot tell its asker ({type(error).__name__})")
            return self._outcomes.dead(delivery, problem, now_ms)

    def _open(self, delivery: Delivery) -> Work:
        task = delivery.task or self._codec.decode(delivery.value, Task)
        if task.reply_topic not in self._reply_topics:
            raise InvalidRequest(
                "reply_topic", f"{task.reply_topic!a} is not allowed", "name it under kafka.reply_topics"
            )
        request = delivery.request or self._codec.decode(task.request, Request)
        started_ms = self._now_ms()
        if self._tracing is not None:
            task = traces.opened(self._tracing, delivery, task, started_ms)
        return Work(delivery, task, request, started_ms, self.arms.of(task), delivery.hops)

    async def _answer(self, work: Work, pool: Generator, on_text: OnText | None) -> Outcome | Retry | Wait:
        request, tier = work.request, work.delivery.tier
        config = work.config
        rules = config.category(category_of(request)).escalation
        lane = Lane.INTERACTIVE if work.delivery.urgent else work.delivery.lane
        try:
            asked = generation_request(work.delivery.generation_id, request, config.tiers[tier], lane)
        except InvalidRequest as error:
            return self._outcomes.failed(work, error.code, str(error), self._now_ms())
        if work.delivery.handed_over:
            asked = replace(asked, line=self._line(work))
        told = None if asked.response_format else on_text
        try:
            generation = await self._generate(work, pool, asked, told)
            reason = reason_to_go_on(generation, request, rules)
            if reason == INVALID_JSON:
                work = work.after(self._outcomes.hop(work, generation, reason))
                work.delivery.hops = work.hops  # also where the second try fails, and another attempt is made
                generation = await self._generate(work, pool, once_more(asked), told)
                reason = reason_to_go_on(generation, request, rules)
        except _Late as error:
            code, cut_short = ErrorCode.DEADLINE_EXCEEDED, work.delivery.cut_short
            return self._outcomes.failed(work, code, str(error), self._now_ms(), cut_short)
        except NotInBatch:
            return Wait()
        except Unavailable as error:
            return self._later(work, pool, error) or self._elsewhere(work, error)
        except GenerationError as error:
            if error.code.retryable:
                return Retry(bounded(f"{error.code}: {error}"))
            return self._outcomes.failed(work, error.code, str(error), self._now_ms())
        may_go_up = reason is not None and escalations(work.task.path) < rules.max_escalations
        above = tier_above(tier, request, work.path, config) if may_go_up else None
        if reason is not None and above is not None:
            return self._outcomes.handed_on(work.after(self._outcomes.hop(work, generation, reason)), above)
        if on_text is not None and told is None:
            on_text(generation.text)
        return self._outcomes.answered(work, generation, self._now_ms(), reason)

    async def _generate(
        self, work: Work, pool: Generator, asked: GenerationRequest, on_text: OnText | None
    ) -> Generation:
        """One generation, within the time that the task has.

        Raises:
            _Late: it ran out before or meanwhile.
        """
        end_ms, what = self._end(work.request, work.delivery.lane)
        left_s = (end_ms - self._now_ms()) / 1000
        if left_s <= 0:
            raise _Late(_LATE.format(what))
        limit = asyncio.timeout(left_s if left_s < math.inf else None)
        try:
            async with limit:
                asked = replace(asked, until_s=limit.when())
                try:
                    return await self._ask_until_reached(work, pool, asked, on_text)
                except CutShort as error:
                    work.delivery.cut_short = error.generation
                    raise asyncio.CancelledError from None  # the only one that a timeout knows for its own
        except TimeoutError:
            if not limit.expired():
                raise
            raise _Late(f"the {what} passed while the answer was generated; allow more time") from None

    async def _ask_until_reached(
        self, work: Work, pool: Generator, asked: GenerationRequest, on_text: OnText | None
    ) -> Generation:
        """The pool's answer. One that cannot be reached, and whose tasks nobody else answers, is waited for."""
        now_s = asyncio.get_running_loop().time
        until_s = now_s() + self._config.worker.wait_for_model_s
        while True:
            try:
                return await self._ask(work, pool, asked, on_text)
            except Unavailable as error:
                if not self._is_waited_for(work, pool, error) or now_s() >= until_s:
                    raise
            work.delivery.turn_s = 0.0  # how long this one takes tells nothing about others
            model = work.config.tiers[work.delivery.tier].model
            await asyncio.sleep(ASK_AGAIN_S * random.uniform(0.75, 1.0))
            while not pool.takes_for(model) and now_s() < until_s:
                await asyncio.sleep(ASK_AGAIN_S * random.uniform(0.75, 1.0))

    async def _ask(self, work: Work, pool: Generator, asked: GenerationRequest, on_text: OnText | None) -> Generation:
        """The pool's answer; the generation is told in the task's trace, however it ends."""
        span, model = work.delivery.span, work.config.tiers[work.delivery.tier].model
        if span is None:
            return await pool.generate(asked, on_text)
        began_ms = self._now_ms()
        try:
            generation = await pool.generate(asked, on_text)
        except BaseException as error:
            traces.generated(span, asked, model, began_ms, self._now_ms(), error)
            raise
        traces.generated(span, asked, model, began_ms, self._now_ms(), generation)
        return generation

    def _line(self, work: Work) -> BatchLine:
        """What the task is in a provider's batch: its record says, which no change of settings alters."""
        delivery = work.delivery
        left_s = (Window.of(self._config.worker).presses_at_ms(work.request) - self._now_ms()) / 1000
        return BatchLine(
            line_id=hashlib.sha256(delivery.value).hexdigest()[:_LINE_ID_CHARS],
            until_s=asyncio.get_running_loop().time() + left_s,
            sought_from_ms=delivery.written_ms if delivery.sought else None,
        )

    def _end(self, request: Request, lane: Lane) -> tuple[float, str]:
        """When an answer is of no use any more, in milliseconds since the epoch, and what says so."""
        deadline_ms = math.inf if request.deadline_ms is None else request.deadline_ms
        if lane is not Lane.BATCH:
            return deadline_ms, "deadline"
        window_ms = request.created_ms + self._config.worker.completion_window_s * 1000
        return min((deadline_ms, "deadline"), (window_ms, "completion window of the batch lane"))

    def _later(self, work: Work, pool: Generator, error: Unavailable) -> Retry | Wait | None:
        """What has time waits for its own model, which is the cheapest that answers it well; None where it has none.

        A call that fails although the model is not left alone may be the request's own fault: it is an attempt.
        """
        delivery, worker = work.delivery, self._config.worker
        takes = pool.takes_for(work.config.tiers[delivery.tier].model)
        if delivery.lane is not Lane.BATCH or Window.of(worker).presses_at_ms(work.request) <= self._now_ms():
            return None
        if (error.unreached or not takes) and delivery.attempts < worker.max_attempts:
            return Wait()  # but the last attempt keeps all others waiting
        if takes and delivery.attempts < worker.max_attempts - 1:
            return Retry(bounded(f"{error.code}: {error}"))
        return None

    def _is_waited_for(self, work: Work, pool: Generator, error: Unavailable) -> bool:
        """Whether a task that began waits for its model: nobody answers in its place, and it waits in no line."""
        last = work.delivery.attempts >= self._config.worker.max_attempts  # which keeps all others waiting
        stands_in = neighbour(work.delivery.tier, work.request, work.path, work.config)
        return error.unreached and not last and stands_in is None and self._later(work, pool, error) is None

    def _elsewhere(self, work: Work, error: Unavailable) -> Outcome:
        """Ask another tier in place of one that cannot answer now."""
        tier = work.delivery.tier
        work = work.after(Hop(tier=tier, model_id=work.config.tiers[tier].model, reason=UNAVAILABLE))
        stand_in = neighbour(tier, work.request, work.path, work.config)
        if stand_in is None:
            message = f"{error}; no other tier may answer in its place, so send the request again later"
            return self._outcomes.failed(work, error.code, message, self._now_ms())
        return self._outcomes.handed_on(work, stand_in)


class _Late(Exception):
    """The time for an answer is over."""


def _place(error: Exception) -> str:
    """Where an error arose. Its text is left out: it may quote a prompt."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    return f"{type(error).__name__} at {where}"
