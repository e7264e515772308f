"""Following one batch at a provider to its end, and telling each of its lines what came of it."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forebay_schemas.errors import ErrorCode

from . import Generation, GenerationError
from .batch_calls import BatchCallFailed, BatchCalls, Response
from .batch_lines import Batch, Line

if TYPE_CHECKING:
    from openai.types import Batch as Told

FIRST_POLL_S = 1.0
"""Until a batch is asked for again; half as long again each time."""

LEFT_AFTER_S = 900.0
"""From when a task of a batch presses until the batch is left where it is: cancelling takes ten minutes at most, and a
provider that does not answer, or has taken the key back, may never say what became of it."""

_ENDED = ("completed", "expired", "cancelled", "failed")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class End:
    """How a batch ended.

    Attributes:
        created_s: since the epoch.
        problem: why it failed as a whole; None where it did not.
    """

    status: str
    created_s: float
    problem: str | None


class Follower:
    """Follows the batches of one model.

    Args:
        read: what came of a line, from its status and body; None where it is to be put into another batch. It raises
            ``GenerationError`` where the request has no answer.
        poll_s: the longest pause before a batch is asked for again.
    """

    def __init__(
        self, name: str, calls: BatchCalls, read: Callable[[int, Any], Generation | None], poll_s: float
    ) -> None:
        self._name = name
        self._calls = calls
        self._read = read
        self._poll_s = poll_s

    async def follow(self, batch: Batch) -> End | None:
        """Ask for a batch until it has ended, and tell its lines; None where nobody here waits for it any more, or it
        is gone or does not end. The lines that are to be put into another batch are left in it."""
        now_s = asyncio.get_running_loop().time
        pause_s, left_s, cancelled = FIRST_POLL_S, math.inf, False
        while batch.lines or (batch.unwanted_wholly and not cancelled):
            batch.news.clear()
            if not cancelled and (batch.recalled or batch.unwanted_wholly):
                if left_s == math.inf:
                    left_s, pause_s = now_s() + LEFT_AFTER_S, FIRST_POLL_S
                cancelled = await self._cancelled(batch)
            try:
                told = await self._calls.retrieve(batch.batch_id)
                cancelled = cancelled or told.status == "cancelling"
                if told.status in _ENDED:
                    batch.read = True
                    await self._tell_all(batch, told)
                    return _end(told)
            except BatchCallFailed as error:
                if error.status == 404 and batch.recalled:
                    return None
                _log.warning("%s: batch %s is asked for again: %s", self._name, batch.batch_id, error)
            if now_s() >= left_s:
                _log.warning(
                    "%s: batch %s is left: it was to be cancelled, and has not ended", self._name, batch.batch_id
                )
                return None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(batch.news.wait(), min(pause_s, max(0.0, left_s - now_s())))
            pause_s = min(1.5 * pause_s, self._poll_s)
        return None

    async def _cancelled(self, batch: Batch) -> bool:
        """Cancel a batch; whether that is done, or it is gone. One that has ended says so when it is asked for."""
        _log.info("%s: cancelling batch %s", self._name, batch.batch_id)
        try:
            await self._calls.cancel(batch.batch_id)
        except BatchCallFailed as error:
            _log.warning("%s: batch %s: %s", self._name, batch.batch_id, error)
            return error.status == 404
        return True

    async def _tell_all(self, batch: Batch, told: "Told") -> None:
        told_of: set[str] = set()
        for file_id in filter(None, (told.output_file_id, told.error_file_id)):
            async for result in self._calls.results(file_id):
                line = batch.lines.get(result.custom_id)
                if line is None or line.answer.done():
                    continue
                told_of.add(line.line_id)
                await asyncio.sleep(0)  # interactive tasks do not wait for thousands of answers
                if result.response is not None:
                    self._tell(line, result.response)
                elif told.status == "completed":  # else the batch ended before its turn
                    self._fail(line, f"failed in a batch: {result.error and result.error.code}")
        if told.status == "completed":
            for line in [one for one in batch.lines.values() if one.line_id not in told_of]:
                self._fail(line, "says nothing of its line in a batch that is complete")
        numbered = {line.number: line for line in batch.lines.values()}
        for problem in (told.errors and told.errors.data) or []:
            if problem.line in numbered:
                self._fail(numbered[problem.line], f"refuses its line in a batch: {problem.message}")

    def _tell(self, line: Line, response: Response) -> None:
        try:
            generation = self._read(response.status_code, response.body)
        except GenerationError as error:
            line.fail(error)
        else:
            if generation is not None:
                line.answer.set_result(generation)

    def _fail(self, line: Line, problem: str) -> None:
        line.fail(GenerationError(ErrorCode.ENGINE_FAILED, f"{self._name} {problem}"))


def _end(told: "Told") -> End:
    codes = [str(one.code) for one in (told.errors and told.errors.data) or []]
    problem = f"batch {told.id} failed ({', '.join(dict.fromkeys(codes))})" if told.status == "failed" else None
    return End(told.status, told.created_at, problem)
