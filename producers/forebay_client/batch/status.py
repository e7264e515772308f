"""How a batch stands: what Kafka says of its file, and what the replies say of its rows."""

import time
from collections.abc import Mapping

import msgspec
from forebay_schemas.batches import Stage
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import REUSED, BatchState, CacheStatus

from .journal import Counted

REPLY_GRACE_S = 3_600.0
"""The last error reply of a batch whose window ended may come this much later."""


class BatchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a batch stands.

    Attributes:
        state: as Kafka has it.
        replies: by kind, a cache status or the code of an error.
        gap: whether replies may be gone from Kafka that were not read in time.
        at_ms: when this was so, in milliseconds since the Unix epoch.
    """

    state: BatchState
    replies: Mapping[str, Counted]
    gap: bool
    at_ms: int

    @classmethod
    def of(cls, state: BatchState, replies: Mapping[str, Counted], gap: bool) -> "BatchStatus":
        """How it stands now."""
        return cls(state=state, replies=replies, gap=gap, at_ms=time.time_ns() // 1_000_000)

    @property
    def batch_id(self) -> str:
        return self.state.batch_id

    @property
    def phase(self) -> str:
        """``sending``, ``running`` (all is published), ``sampled``, ``ceiling``, ``cancelling``; and when no reply is
        awaited any more ``completed``, ``expired`` or ``cancelled``."""
        stage = self.state.stage
        if stage == Stage.CANCELLED:
            return "cancelled" if self.complete else "cancelling"
        if stage == Stage.SENT:
            return "completed" if self.complete else "expired" if self._given_up else "running"
        return "expired" if self.at_ms > self.state.deadline_ms else stage

    @property
    def over(self) -> bool:
        """Whether nothing changes any more."""
        return self.phase in ("completed", "cancelled", "expired") and (self.complete or self._given_up)

    @property
    def complete(self) -> bool:
        """Whether every row that was published has its reply."""
        return self.settled >= self.state.sent

    @property
    def ended(self) -> ErrorCode | None:
        """Why rows that are not published never will be; None while they may."""
        if self.state.stage == Stage.CANCELLED:
            return ErrorCode.CANCELLED
        return ErrorCode.DEADLINE_EXCEEDED if self.at_ms > self.state.deadline_ms else None

    @property
    def settled(self) -> int:
        """Rows with a reply, an error reply included."""
        return sum(counted.rows for counted in self.replies.values())

    @property
    def answered(self) -> int:
        """Rows with an answer."""
        return sum(counted.rows for kind, counted in self.replies.items() if kind in list(CacheStatus))

    @property
    def hits(self) -> int:
        """Rows that were answered without a generation of their own."""
        return sum(counted.rows for kind, counted in self.replies.items() if kind in REUSED)

    @property
    def refused(self) -> int:
        """Rows that make no request that could be answered, so far."""
        return self.state.read - self.state.sent

    @property
    def failed(self) -> int:
        """Rows that ended without an answer: refused, or with an error."""
        return self.refused + self.settled - self.answered

    @property
    def cost(self) -> float:
        """US dollars, so far."""
        return sum(counted.cost for counted in self.replies.values())

    @property
    def baseline_cost(self) -> float:
        """What the largest tier would have cost."""
        return sum(counted.baseline_cost for counted in self.replies.values())

    @property
    def _given_up(self) -> bool:
        return self.at_ms > self.state.deadline_ms + REPLY_GRACE_S * 1000
