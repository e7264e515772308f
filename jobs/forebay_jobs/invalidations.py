"""Commands that invalidate: applied in Redis, which they wait for while it is away, and acknowledged by an event."""

import logging

from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import InvalidRequest
from forebay_schemas.invalidation import EVENT, Invalidation, InvalidationOutcome
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import Event
from forebay_schemas.validation import validate_invalidation

from .caches.answers import AnswerStore
from .desk_state import DeskState
from .messages import Invalidate, Outgoing

INVALIDATIONS = "~"
"""The key under which the next try is noted; no flight has it."""
RETRY_MS = 1_000
_SHOWN, _SHOWN_CHARS = 20, 200
"""How many attributes, and of each how much, are repeated: what a refused command says may be of any length."""

logger = logging.getLogger(__name__)


class Invalidations:
    """Those of one bucket, kept in its state until they are applied."""

    def __init__(self, config: Config, codec: Codec, answers: AnswerStore, metrics: JobMetrics) -> None:
        self._config = config
        self._codec = codec
        self._answers = answers
        self._metrics = metrics

    def take(self, state: DeskState, command: Invalidate, now_ms: int) -> list[Outgoing]:
        """Apply a command and acknowledge it, or keep it for the next try."""
        return self._apply(state, [command], now_ms)

    def retry(self, state: DeskState, now_ms: int) -> list[Outgoing]:
        """Try again what could not be applied. In which order does not matter: none takes back another."""
        return self._apply(state, state.take_invalidations(), now_ms)

    def _apply(self, state: DeskState, commands: list[Invalidate], now_ms: int) -> list[Outgoing]:
        sent: list[Outgoing] = []
        waiting = 0
        for command in commands:
            outcome, problem = self._outcome(command, now_ms)
            if outcome is None:
                state.add_invalidation(command)
                waiting += 1
                continue
            self._metrics.invalidations.labels(outcome).inc()
            sent.append(self._acknowledge(command, outcome, problem, now_ms))
        if waiting:
            state.wake(INVALIDATIONS, now_ms + RETRY_MS)
        return sent

    def _outcome(self, command: Invalidate, now_ms: int) -> tuple[InvalidationOutcome | None, str]:
        """What became of a command, None while Redis is away; and what is wrong with it."""
        try:
            invalidation = Invalidation.of(command.filters)
            validate_invalidation(invalidation, now_ms)
        except InvalidRequest as error:
            logger.warning("the command %s is refused: %s", command.name, error)
            return InvalidationOutcome.REFUSED, str(error)
        if invalidation.model is not None and invalidation.model not in self._config.models:
            return InvalidationOutcome.UNKNOWN, ""  # of a model that is configured no more nothing is given anyway
        return self._answers.invalidate(invalidation, command.name), ""

    def _acknowledge(self, command: Invalidate, outcome: InvalidationOutcome, problem: str, now_ms: int) -> Outgoing:
        said = {**command.arguments, "issued_by": command.issued_by, "issued_ms": str(command.issued_ms)}
        attributes = {name[:_SHOWN_CHARS]: value[:_SHOWN_CHARS] for name, value in list(said.items())[-_SHOWN:]}
        attributes |= {"outcome": outcome} | ({"problem": problem} if problem else {})
        event = Event(event=EVENT, source="job", happened_ms=now_ms, attributes=attributes)
        key = attributes.get("id", command.name)
        return Outgoing(topic=self._config.kafka.topics.events, key=key.encode(), value=self._codec.encode(event))
