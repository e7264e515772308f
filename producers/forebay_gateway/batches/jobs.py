"""Batches in Redis: what was asked, how each stands, and which copy of the gateway works on it."""

import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec
import redis.asyncio as redis
from forebay_client.batch.planning import row_options
from redis.asyncio.lock import Lock

from ..errors import ApiError
from ..store import StoredFile

LEASE_S = 15.0
"""How long after a copy's death another takes its batches over."""
# KEYS: a batch. ARGV: fields and values. A batch that is forgotten stays so.
_UPDATE = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], unpack(ARGV)) end"
# KEYS: a batch. ARGV: US dollars that it has cost by now. Returns those that nobody has charged yet.
_CHARGE = """
local before = tonumber(redis.call('HGET', KEYS[1], 'charged_usd') or ARGV[1])
if tonumber(ARGV[1]) <= before then return '0' end
redis.call('HSET', KEYS[1], 'charged_usd', ARGV[1])
return tostring(tonumber(ARGV[1]) - before)
"""


class Status(StrEnum):
    """How a batch stands, in OpenAI's words."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ENDED = frozenset({Status.FAILED, Status.COMPLETED, Status.EXPIRED, Status.CANCELLED})


class Problem(msgspec.Struct, frozen=True):
    """Why a batch failed: OpenAI's batch error.

    Attributes:
        line: of the input file, from 1.
    """

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchJob(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as OpenAI's clients see it. Times are seconds since the Unix epoch.

    Attributes:
        run: what tells it from other batches of the same file; with it the id of the batch is made.
        key_id: of the API key that pays; None where none is asked for.
        charged_usd: what that key has paid so far.
    """

    id: str
    tenant: str
    run: str
    input_file_id: str
    endpoint: str
    completion_window: str
    created_at: int
    expires_at: int
    key_id: str | None = None
    metadata: dict[str, str] | None = None
    output_kept_s: int | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    total: int = 0
    answered: int = 0
    failed: int = 0
    charged_usd: float = 0.0
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: list[Problem] = []

    @property
    def status(self) -> Status:
        """The last thing that happened to it."""
        for status in (
            Status.FAILED,
            Status.CANCELLED,
            Status.EXPIRED,
            Status.COMPLETED,
            Status.CANCELLING,
            Status.FINALIZING,
            Status.IN_PROGRESS,
        ):
            if getattr(self, f"{status}_at") is not None:
                return status
        return Status.VALIDATING


def batch_id(file: StoredFile, run: str) -> str:
    """The id that ``Batch.submit`` gives the batch of a file: whoever publishes it, its requests have the same ids."""
    return row_options(file.tenant, {"run": run}).batch_id(file.sha256)


class Jobs:
    """The batches of all tenants.

    Args:
        prefix: of every name in Redis.
        kept_s: for how long a batch is known after its window.

    All methods raise ``RedisError`` where Redis is away.
    """

    def __init__(self, store: redis.Redis, prefix: str, kept_s: int) -> None:
        self._store: Any = store
        self._prefix, self._kept_s = prefix, kept_s
        self._update, self._charge = store.register_script(_UPDATE), store.register_script(_CHARGE)

    async def begin(self, job: BatchJob) -> BatchJob:
        """Keep a new batch for whoever will work on it; the one that there is where it is not new."""
        if (known := await self.find(job.id)) is not None:
            return known
        name = self._name(job.id)
        async with self._store.pipeline() as pipe:
            pipe.hset(name, mapping=_encoded(msgspec.structs.asdict(job)))
            pipe.expireat(name, job.expires_at + self._kept_s)
            pipe.zadd(self._index(job.tenant), {job.id: job.created_at})
            pipe.sadd(self._open, job.id)
            await pipe.execute()
        return job

    async def find(self, job_id: str) -> BatchJob | None:
        """A batch of whomever; None where it is forgotten."""
        return _decoded(await self._store.hgetall(self._name(job_id)))

    async def get(self, tenant: str, job_id: str) -> BatchJob:
        """A batch of a tenant's.

        Raises:
            ApiError: the tenant has no such batch.
        """
        job = await self.find(job_id)
        if job is None or job.tenant != tenant:
            raise ApiError(404, f"there is no batch {job_id!a:.80}", code="batch_not_found")
        return job

    async def of(self, tenant: str) -> list[BatchJob]:
        """The batches of a tenant, the oldest first."""
        names = [name.decode() for name in await self._store.zrange(self._index(tenant), 0, -1)]
        jobs = await self._all(names)
        if gone := set(names) - {job.id for job in jobs}:
            await self._store.zrem(self._index(tenant), *gone)
        return jobs

    async def cancel(self, job: BatchJob) -> BatchJob:
        """Ask whoever works on it to take back what is not answered. One that has ended stays as it is."""
        if job.cancelling_at is None:
            await self._store.hsetnx(self._name(job.id), "cancelling_at", msgspec.json.encode(int(time.time())))
        return await self.get(job.tenant, job.id)

    async def update(self, job_id: str, **fields: Any) -> None:
        """Say how it stands now."""
        told = [part for pair in _encoded(fields).items() for part in pair]
        await self._update([self._name(job_id)], told)

    async def charge(self, job_id: str, cost_usd: float) -> float:
        """Say what it has cost by now; the US dollars of these that are not charged yet."""
        return float(await self._charge([self._name(job_id)], [repr(cost_usd)]))

    async def end(self, job_id: str, **fields: Any) -> None:
        """Say what came of it: nobody has to work on it any more."""
        await self.update(job_id, **fields)
        await self.drop(job_id)

    async def drop(self, job_id: str) -> None:
        """Nobody has to work on it any more."""
        await self._store.srem(self._open, job_id)

    async def open(self) -> list[str]:
        """The ids of the batches on which somebody has to work."""
        return [name.decode() for name in await self._store.smembers(self._open)]

    async def reading(self, file: StoredFile) -> list[str]:
        """The ids of the batches that are made of a file, and have not ended."""
        return [job.id for job in await self._all(await self.open()) if job.input_file_id == file.id]

    def lease(self, job_id: str) -> Lock:
        """The right to work on a batch, for one copy at a time, as long as it says that it lives.

        It keeps copies out of each other's way. That nothing is published twice does not rest on it: a batch has one
        owner in Kafka, the newest.
        """
        return self._store.lock(f"{self._prefix}:lease:{job_id}", timeout=LEASE_S, blocking=False, thread_local=False)

    async def _all(self, names: Sequence[str]) -> list[BatchJob]:
        async with self._store.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(self._name(name))
            return [job for value in await pipe.execute() if (job := _decoded(value)) is not None]

    @property
    def _open(self) -> str:
        return f"{self._prefix}:open-batches"

    def _name(self, job_id: str) -> str:
        return f"{self._prefix}:batch:{job_id}"

    def _index(self, tenant: str) -> str:
        return f"{self._prefix}:batches:{tenant}"


def _encoded(fields: dict[str, Any]) -> dict[str, bytes]:
    return {name: msgspec.json.encode(value) for name, value in fields.items() if value is not None}


def _decoded(fields: dict[bytes, bytes]) -> BatchJob | None:
    if not fields:
        return None
    return msgspec.convert({name.decode(): msgspec.json.decode(value) for name, value in fields.items()}, BatchJob)
