"""Charges batches to the keys that created them, and says how far these reach."""

from datetime import UTC, datetime

from ..keys import Key, Keys
from ..limits import Limits
from .jobs import BatchJob, Jobs

_NEXT_TO_NOTHING_USD = 1e-9
"""A ceiling below which nothing is sent."""


class Payer:
    """The keys of all batches.

    Args:
        keys: None: none is asked for, and nobody pays.

    All methods raise ``RedisError`` where Redis is away.
    """

    def __init__(self, keys: Keys | None, jobs: Jobs, limits: Limits) -> None:
        self._keys, self._jobs, self._limits = keys, jobs, limits

    async def ceiling_usd(self, job: BatchJob) -> float | None:
        """What a batch may cost in all; None: what it costs."""
        key = self._key(job)
        left_usd = None if key is None else await self._limits.left_usd(key, datetime.now(UTC))
        return None if left_usd is None else max(job.charged_usd + left_usd, _NEXT_TO_NOTHING_USD)

    async def charge(self, job: BatchJob, cost_usd: float) -> None:
        """Charge what it has cost by now."""
        key = self._key(job)
        if key is not None and key.limited and (new_usd := await self._jobs.charge(job.id, cost_usd)):
            await self._limits.charge(key, new_usd, datetime.now(UTC))

    def _key(self, job: BatchJob) -> Key | None:
        return self._keys.known(job.key_id) if self._keys is not None and job.key_id else None
