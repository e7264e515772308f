"""Works on the batches that are open: each by one copy of the gateway, and by another one when that is gone."""

import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from forebay_client.batch import BatchTakenOver
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.metrics import GatewayMetrics
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

from .files import Files
from .following import Following, Stopped
from .jobs import ENDED, LEASE_S, BatchJob, Jobs, Problem, Status
from .paying import Payer

_LOOK_EVERY_S = 1.0
"""How soon a copy sees what came to another one, or was left by it."""
_RENEW_EVERY_S = LEASE_S / 3
_MOST = 8
"""Batches of one copy at a time: each has a thread that reads the topic of replies, and up to 64 MB of them ahead. More
wait in ``validating``."""
_PATIENCE_S = 3_600
"""How long after its window a batch is tried that cannot be brought to its end."""
_LEAVE_S = 10.0
"""How long a copy that ends waits for its threads; what they leave, others take up."""

_log = logging.getLogger(__name__)


class Runner:
    """The batches on which this copy works.

    Args:
        payer: who pays.
    """

    def __init__(self, config: Config, files: Files, jobs: Jobs, payer: Payer, metrics: GatewayMetrics) -> None:
        self._config, self._files, self._jobs, self._payer, self._metrics = config, files, jobs, payer, metrics
        self._working: dict[str, asyncio.Task[None]] = {}
        self._leaving = threading.Event()
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Take up what nobody works on, for as long as this copy lives."""
        away = False
        while True:
            try:
                for job_id in await self._jobs.open():
                    if job_id not in self._working and len(self._working) < _MOST:
                        await self._take_up(job_id)
                away = False
            except (RedisError, OSError) as error:
                if not away:
                    _log.warning("batches wait, Redis is away: %s", error)
                away = True
            self._woken.clear()
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._woken.wait()
            except TimeoutError:
                continue

    def wake(self) -> None:
        """There is a new one."""
        self._woken.set()

    async def close(self) -> None:
        """Leave all to others."""
        self._leaving.set()
        if self._working:
            await asyncio.wait(self._working.values(), timeout=_LEAVE_S)

    async def _take_up(self, job_id: str) -> None:
        lease = self._jobs.lease(job_id)
        if await lease.acquire():
            task = asyncio.create_task(self._work(job_id, lease))
            self._working[job_id] = task
            task.add_done_callback(lambda _: self._working.pop(job_id))

    async def _work(self, job_id: str, lease: Lock) -> None:
        lost = threading.Event()
        renewing = asyncio.create_task(_renew(lease, lost))
        try:
            job = await self._jobs.find(job_id)
            if job is None or job.status in ENDED:
                await self._jobs.drop(job_id)
                return
            try:
                ended = await self._followed(job, lost)
            except (ForebayError, RedisError, HTTPException, OSError) as error:
                if isinstance(error, BatchTakenOver) or time.time() < job.expires_at + _PATIENCE_S:
                    raise
                ended = Status.FAILED
                problem = Problem("internal", f"it could not be brought to its end: {error}")
                await self._jobs.end(job_id, failed_at=int(time.time()), errors=[problem])
            self._metrics.batches.labels(ended).inc()
        except Stopped:
            _log.info("%s: left to another copy", job_id)
        except Exception as error:  # the lease runs out, and whoever comes then tries again
            self._metrics.batch_failures.inc()
            _log.warning("%s: is tried again soon: %s", job_id, error, exc_info=not isinstance(error, ForebayError))
            return
        finally:
            renewing.cancel()
        try:
            await lease.release()
        except (LockError, RedisError, OSError):
            _log.debug("%s: the lease was gone", job_id)

    async def _followed(self, job: BatchJob, lost: threading.Event) -> Status:
        """Work on a batch on a thread, which ends with the process wherever it is."""
        loop = asyncio.get_running_loop()
        done: Future[Status] = Future()

        def wait_for(work: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result()

        def stopped() -> bool:
            return lost.is_set() or self._leaving.is_set()

        def follow() -> None:
            done.set_running_or_notify_cancel()
            try:
                with tempfile.TemporaryDirectory(prefix="forebay-batch-", ignore_cleanup_errors=True) as folder:
                    following = Following(
                        job, Path(folder), self._config, self._files, self._jobs, self._payer, wait_for, stopped
                    )
                    done.set_result(following.to_its_end())
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=follow, name=job.id, daemon=True).start()
        return await asyncio.wrap_future(done)


async def _renew(lease: Lock, lost: threading.Event) -> None:
    """Keep a lease as long as the work takes; say when it is lost."""
    while True:
        await asyncio.sleep(_RENEW_EVERY_S)
        try:
            await lease.reacquire()
        except LockError:
            lost.set()
            return
        except (RedisError, OSError) as error:  # nobody else can take it either
            _log.warning("a lease could not be renewed: %s", error)
