"""The requests that wait for a provider's batches, and those batches, as one worker knows them."""

import asyncio
from dataclasses import dataclass, field

from . import Generation, GenerationRequest


@dataclass(eq=False)
class Line:
    """A request that waits for its answer, gathered or in a batch.

    Attributes:
        line_id, until_s, sought_from_ms: see ``BatchLine``; it is sought until it was found, or not.
        gathered_s: when that was, on the monotonic clock.
        encoded: its line of a file, as long as it is gathered.
        number: its place in its batch, from 1.
        making: whether a batch with it is being made.
        unwanted: whether nobody wants the answer any more.
    """

    request: GenerationRequest
    line_id: str
    until_s: float
    sought_from_ms: float | None
    answer: asyncio.Future[Generation]
    gathered_s: float = 0.0
    encoded: bytes = b""
    batch: "Batch | None" = None
    number: int = 0
    making: bool = False
    unwanted: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it is time to call directly."""
        return self.answer.get_loop().time() >= self.until_s

    def fail(self, error: Exception) -> None:
        """It has no answer, unless it has one."""
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(eq=False)
class Batch:
    """A batch at the provider.

    Attributes:
        size: how many lines it has, of all workers.
        created_s: since the epoch, by the provider's clock.
        lines: those that are waited for here.
        unwanted: how many of its lines nobody wants any more.
        recalled: whether it is to be cancelled.
        read: whether its results are being read, so that a line that joins now may be missed.
        news: that something of this changed.
    """

    batch_id: str
    size: int
    created_s: float
    lines: dict[str, Line] = field(default_factory=dict)
    unwanted: int = 0
    recalled: bool = False
    read: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def unwanted_wholly(self) -> bool:
        """Whether nobody wants any of it."""
        return self.unwanted >= self.size > 0
