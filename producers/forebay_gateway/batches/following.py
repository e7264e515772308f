"""One batch's way from its uploaded file to the files of its results, on a thread of its own.

It may stop anywhere. Whoever takes it up again, on whichever copy of the gateway, does the same once more, and
``forebay_client.batch`` sees to it that no row is sent twice.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from forebay_client.batch import Batch, BatchEnded, BatchStatus, NothingToSend, UnknownBatch
from forebay_client.batch.planning import row_options
from forebay_schemas.batches import Stage
from forebay_schemas.config import Config

from ..store import StoredFile
from .files import Files
from .jobs import BatchJob, Jobs, Problem, Status
from .paying import Payer
from .validating import problems_of

_LOOK_EVERY_S = 1.0
"""How soon it is noticed that the batch was cancelled."""


class Stopped(Exception):
    """This copy may not, or will not, go on with the batch."""


class Following:
    """A batch that this copy works on.

    Args:
        folder: where the file and the journal of replies lie meanwhile.
        wait_for: has something done on the event loop, and waits for it.
        stopped: whether to leave it to others.
    """

    def __init__(
        self,
        job: BatchJob,
        folder: Path,
        config: Config,
        files: Files,
        jobs: Jobs,
        payer: Payer,
        wait_for: Callable[[Coroutine[Any, Any, Any]], Any],
        stopped: Callable[[], bool],
    ) -> None:
        self._job, self._folder, self._config = job, folder, config
        self._files, self._jobs, self._payer = files, jobs, payer
        self._wait_for, self._stopped = wait_for, stopped
        self._batch = Batch(job.id, config=config, journals=folder)
        self._file = folder / "input.jsonl"
        self._looked_s = 0.0
        self._final = False
        """Whether it is too late to cancel it, or done already."""
        self._told: tuple[float, ...] = ()

    def to_its_end(self) -> Status:
        """Do all that is left to do.

        Returns:
            How it ended.

        Raises:
            Stopped: others go on with it.
            ForebayError, RedisError, ApiError: it could not be done now.
        """
        self._wait_for(self._fetch())
        try:
            if self._job.in_progress_at is None and (problems := self._problems()):
                return self._end(Status.FAILED, errors=problems)
            if problems := self._publish():
                return self._end(Status.FAILED, errors=problems)
            status = self._batch.wait(told=self._count)
        except _TakenBack:
            return self._taken_back(Status.CANCELLED)
        if status.phase == Stage.CEILING:
            return self._taken_back(Status.FAILED, errors=[_SPENT])
        return self._results(Status(status.phase))

    def _problems(self) -> list[Problem]:
        return problems_of(self._file, row_options(self._job.tenant, {}), self._config, self._step)

    def _publish(self) -> list[Problem]:
        """Send what is not sent; why nothing can be."""
        self._update(in_progress_at=self._job.in_progress_at or _now_s())
        try:
            Batch.submit(
                self._file,
                self._job.tenant,
                config=self._config,
                journals=self._folder,
                run=self._job.run,
                price_ceiling=self._wait_for(self._payer.ceiling_usd(self._job)),
                surveyed=self._step,
                told=self._sent,
            )
        except NothingToSend as error:
            return [Problem("invalid_request", str(error))]
        except BatchEnded:  # by `forebay batch cancel`, or its window: there may be results
            pass
        return []

    def _taken_back(self, ended: Status, **fields: Any) -> Status:
        self._final = True
        try:
            self._batch.cancel("gateway")
        except UnknownBatch:  # nothing of it was published
            return self._end(ended, **fields)
        self._batch.wait(told=self._count)
        return self._results(ended, **fields)

    def _results(self, ended: Status, **fields: Any) -> Status:
        self._final = True
        self._update(finalizing_at=_now_s())
        written = self._batch.results(
            self._folder / "output.jsonl", self._folder / "errors.jsonl", file=self._file, told=self._step
        )
        kept = {"output_file_id": (written.output, written.answered), "error_file_id": (written.errors, written.failed)}
        for name, (file, lines) in kept.items():
            if lines:
                fields[name] = self._keep(file, name).id
        return self._end(ended, answered=written.answered, failed=written.failed, **fields)

    def _keep(self, file: Path, name: str) -> StoredFile:
        kind = name.partition("_")[0]
        file_id = f"file-{self._job.id.removeprefix('batch_')}-{kind}"
        filename = f"{self._job.id}_{kind}.jsonl"
        with file.open("rb") as data:

            async def read(size: int) -> bytes:
                return await asyncio.to_thread(data.read, size)

            kept = self._wait_for(
                self._files.write(self._job.tenant, filename, "batch_output", read, file_id, self._job.output_kept_s)
            )
        if self._wait_for(self._jobs.find(self._job.id)) is None:  # forgotten meanwhile, and so is what it came to
            self._wait_for(self._files.delete(kept))
            raise Stopped
        return kept

    async def _fetch(self) -> None:
        source = await self._files.get(self._job.tenant, self._job.input_file_id)
        with self._file.open("wb") as data:
            async for piece in await self._files.pieces(source):
                data.write(piece)

    def _sent(self, state: Any) -> None:
        self._tell(total=state.rows)
        self._step()

    def _count(self, status: BatchStatus) -> None:
        self._tell(total=status.state.rows, answered=status.answered, failed=status.failed)
        self._wait_for(self._payer.charge(self._job, status.cost))
        self._step()

    def _tell(self, **counts: int) -> None:
        if (told := tuple(counts.values())) != self._told:
            self._update(**counts)
            self._told = told

    def _step(self, _: object = None) -> None:
        """See now and then whether to go on."""
        if self._stopped():
            raise Stopped
        if time.monotonic() < self._looked_s + _LOOK_EVERY_S:
            return
        self._looked_s = time.monotonic()
        job = self._wait_for(self._jobs.find(self._job.id))
        if job is None:
            raise Stopped
        if job.cancelling_at is not None and not self._final:
            raise _TakenBack

    def _end(self, ended: Status, **fields: Any) -> Status:
        self._wait_for(self._jobs.end(self._job.id, **{f"{ended}_at": _now_s()}, **fields))
        return ended

    def _update(self, **fields: Any) -> None:
        self._wait_for(self._jobs.update(self._job.id, **fields))


class _TakenBack(Exception):
    """The batch was cancelled."""


_SPENT = Problem(
    "insufficient_quota",
    "the rest could cost more than the key of this batch may still spend; raise its limit, or wait for the next day or"
    " month, and create the batch anew: what is answered is in its output file, and in the caches",
)


def _now_s() -> int:
    return int(time.time())
