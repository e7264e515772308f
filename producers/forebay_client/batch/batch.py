"""A batch from Python: submit a file, look at it, wait for it, get its results, take it back."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Unpack

import msgspec
from forebay_schemas import commands
from forebay_schemas.batches import Stage
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ForebayError, InvalidRequest
from forebay_schemas.records import BatchState
from forebay_schemas.registry import codec_for

from ..preparing import Preparation
from .budget import Budget
from .collecting import Collector
from .errors import BatchEnded, ChangedFile, UnknownBatch, expired
from .log import StateLog, ends_of
from .options import RowOptions
from .owner import Owner
from .planning import BatchFields, allowed_reply_topic, plan, row_options
from .projection import Projection, project
from .results import Results, Written
from .rows import Source, open_source
from .sending import Sending
from .status import BatchStatus
from .survey import digest_of

_STATE_EVERY_S = 5.0
"""How soon who waits learns that another process published more, or took the batch back."""
_POLL_S = 0.5
_CANCEL_LOOKS_S = 2.0
"""How long who takes a batch back looks whether it is over: each moment more is paid for."""

ToldState = Callable[[BatchState], object]
ToldStatus = Callable[[BatchStatus], object]
ToldRows = Callable[[int], object]


class Batch:
    """A batch that was submitted, from this process or from another. Holds no connection between calls.

    Args:
        batch_id: as ``submit`` tells it.
        config: absent: the file that ``FOREBAY_CONFIG`` names, and the environment.
        journals: folder of the journals of replies, which are caches; absent: ``default_journals()``.
    """

    def __init__(self, batch_id: str, *, config: Config | None = None, journals: Path | None = None) -> None:
        self.batch_id = batch_id
        self._config = config or load_config()
        self._codec = codec_for(self._config)
        self._journals = journals or default_journals()

    @classmethod
    def submit(
        cls,
        file: Path | str,
        tenant: str,
        *,
        config: Config | None = None,
        journals: Path | None = None,
        completion_window_s: float | None = None,
        price_ceiling: float | None = None,
        reply_topic: str | None = None,
        sample: int | None = None,
        surveyed: ToldRows | None = None,
        told: ToldState | None = None,
        **fields: Unpack[BatchFields],
    ) -> "Batch":
        """Publish the rows of a file, each once. The same call again goes on where the one before was stopped.

        It returns when all is published, which under a price ceiling waits for replies: nothing is published that could
        pass it. What then is left is published by a call with a higher one.

        Args:
            file: ``.jsonl`` in OpenAI's batch format, or ``.csv``, ``.tsv`` or ``.parquet`` with a template.
            tenant: whose requests they are.
            completion_window_s: after that nobody needs the answers; counts from the first call. At most, and where
                absent, ``worker.completion_window_s``: after that workers answer no row.
            price_ceiling: US dollars.
            reply_topic: one of ``kafka.reply_topics``; absent: the standard one. Of it, and of the window, another call
                says the same as the first, or nothing.
            sample: publish the first so many rows alone, for now.
            surveyed: told how many rows were looked at before anything is sent.
            told: told of the state: before anything is sent, and after every portion.
            fields: what is said of all rows. They make the batch what it is, with tenant and file.

        Raises:
            InvalidRequest: an option or two rows of one name cannot be used; nothing was published.
            NothingToSend: no row can be.
            BatchEnded: it was taken back, or its completion window ended.
            BatchTakenOver: another process publishes it, or took it back.
            BrokerUnavailable: the brokers refuse, or do not answer; call again when they do.
            ForebayError: the file cannot be read.
        """
        config = config or load_config()
        for name, value in {"completion_window_s": completion_window_s, "price_ceiling": price_ceiling}.items():
            if value is not None and not value > 0:
                raise InvalidRequest(name, f"is {value}", "give a positive number")
        longest_s = config.worker.completion_window_s
        window_s = longest_s if completion_window_s is None else completion_window_s
        if window_s > longest_s:
            problem = f"is {window_s:g} s, above the {longest_s:g} s after which workers answer no row"
            raise InvalidRequest("completion_window_s", problem, "give less, or raise worker.completion_window_s")
        topic = allowed_reply_topic(reply_topic, config)
        source, planned = plan(Path(file), row_options(tenant, fields), config, surveyed or _nobody)

        def begin(known: BatchState | None) -> BatchState:
            if known is not None:
                _check_unchanged(known, completion_window_s, reply_topic)
                return known
            now_ms = time.time_ns() // 1_000_000
            return msgspec.structs.replace(
                planned,
                created_ms=now_ms,
                updated_ms=now_ms,
                deadline_ms=now_ms + round(window_s * 1000),
                reply_topic=topic,
                replies_from=ends_of(config, topic),
            )

        batch = cls(planned.batch_id, config=config, journals=journals)
        batch._publish(source, begin, price_ceiling, sample, told or _nobody)
        return batch

    @classmethod
    def project(
        cls,
        file: Path | str,
        tenant: str,
        *,
        config: Config | None = None,
        told: ToldRows | None = None,
        **fields: Unpack[BatchFields],
    ) -> Projection:
        """Say what a batch would cost, from its rows and the prices of the configuration. Nothing is sent.

        Args and raises: as for ``submit``; ``told`` of the rows that were looked at.
        """
        config = config or load_config()
        source, planned = plan(Path(file), row_options(tenant, fields), config, _nobody)
        preparation = Preparation(config, codec_for(config), None, tenant, None)
        return project(planned, source, config, preparation, told or _nobody)

    @classmethod
    def run(
        cls,
        file: Path | str,
        tenant: str,
        *,
        output: Path | str | None = None,
        errors: Path | str | None = None,
        out_column: str | None = None,
        timeout_s: float | None = None,
        **options: Any,
    ) -> tuple[BatchStatus, Written]:
        """Submit a file, wait until all is answered, and write the results: all of a nightly job, safe to run again.

        Args:
            timeout_s: how long to wait; the batch goes on without whoever waits.
            options: as for ``submit``.

        Returns:
            How the batch stands, and what was written.
        """
        batch = cls.submit(file, tenant, **options)
        status = batch.wait(timeout_s)
        return status, batch.results(output, errors, out_column=out_column)

    def resume(
        self, *, price_ceiling: float | None = None, file: Path | str | None = None, told: ToldState | None = None
    ) -> None:
        """Publish what is left, as ``submit`` with the same arguments would.

        Args:
            price_ceiling: another one, in US dollars.
            file: where the file is by now, if not where it was.

        Raises:
            UnknownBatch: there is no such batch.
            ChangedFile: the file is another one by now.
            Others as for ``submit``.
        """
        state = self.state()
        self._publish(self._source(state, file), lambda known: known or state, price_ceiling, None, told or _nobody)

    def state(self) -> BatchState:
        """How far its file is published.

        Raises:
            UnknownBatch: there is no such batch.
            BrokerUnavailable: it cannot be asked for.
        """
        with self._states() as states:
            return self._in(states)

    def status(self) -> BatchStatus:
        """How it stands now, with all replies that there are. For what is raised see ``state``."""
        with self._caught_up() as (status, _):
            return status

    def wait(self, timeout_s: float | None = None, told: ToldStatus | None = None) -> BatchStatus:
        """Wait until no reply is awaited any more: all are here, or nobody publishes the rest.

        Args:
            timeout_s: None: however long that takes.
            told: of its status, at least twice a second.

        Returns:
            How it stands then, or after the timeout.
        """
        until_s = time.monotonic() + (timeout_s if timeout_s is not None else math.inf)
        with self._states() as states:
            state, read_s = self._in(states), time.monotonic()
            with self._collecting(state) as collector:
                while True:
                    collector.collect(_POLL_S)
                    if time.monotonic() - read_s > _STATE_EVERY_S:
                        state, read_s = self._in(states), time.monotonic()
                    status = BatchStatus.of(state, collector.tally(), collector.gap)
                    (told or _nobody)(status)
                    rests = status.complete and status.phase in (Stage.SAMPLED, Stage.CEILING)
                    if (collector.at_end and (status.over or rests)) or time.monotonic() > until_s:
                        return status

    def results(
        self,
        output: Path | str | None = None,
        errors: Path | str | None = None,
        *,
        out_column: str | None = None,
        file: Path | str | None = None,
        told: ToldRows | None = None,
    ) -> Written:
        """Write what there is by now, in the order of the rows: OpenAI's output and error file, or the input with a new
        column and an error file.

        Args:
            output, errors: absent: beside the input, ``NAME.output.SUFFIX`` and ``NAME.errors.jsonl``.
            out_column: of CSV and Parquet, where the answers go; absent: ``answer``.
            file: where the input is by now, if not where it was.
            told: of the rows that were written, now and then.

        Raises:
            ChangedFile: the file is another one by now.
            InvalidRequest: the file has such a column already, or no columns; or the input would be overwritten.
            ForebayError: a file cannot be read or written.
        """
        with self._caught_up() as (status, collector):
            source = self._source(status.state, file)
            at = source.file
            results = Results(status, source, collector.journal, self._codec, self._preparation(status.state))
            return results.write(
                Path(output) if output else at.with_name(f"{at.stem}.output{at.suffix}"),
                Path(errors) if errors else at.with_name(f"{at.stem}.errors.jsonl"),
                out_column,
                told or _nobody,
            )

    def cancel(self, issued_by: str = "client") -> BatchState:
        """Take back all rows that are not answered yet, and publish no more; final. One that is over stays as it is.

        Returns:
            Its state, at once; what is taken back ends in error replies, which ``wait`` waits for.

        Raises:
            UnknownBatch: there is no such batch.
            BrokerUnavailable: it could not be taken back.
        """
        with self._caught_up(time.monotonic() + _CANCEL_LOOKS_S) as (status, _):
            if status.over:
                return status.state
        with closing(Owner(self._config, self._codec, self.batch_id)) as owner:
            state = self.state()
            if state.stage != Stage.CANCELLED:
                now_ms = time.time_ns() // 1_000_000
                state = msgspec.structs.replace(state, stage=Stage.CANCELLED, updated_ms=now_ms)
                command = commands.cancel(state.tenant, self.batch_id, issued_by=issued_by, issued_ms=now_ms)
                owner.commit(state, commands=[command])
        return state

    def _publish(
        self,
        source: Source,
        begin: Callable[[BatchState | None], BatchState],
        price_ceiling: float | None,
        sample: int | None,
        told: ToldState,
    ) -> None:
        with closing(Owner(self._config, self._codec, self.batch_id)) as owner:
            with self._states() as states:
                state = begin(states.read().get(self.batch_id))
            if state.stage == Stage.CANCELLED:
                raise BatchEnded(state, "was taken back")
            if price_ceiling is not None:
                state = msgspec.structs.replace(state, price_ceiling=price_ceiling)
            told(state)
            last = max(state.read, state.rows if sample is None else min(sample, state.rows))
            # Who died behind the last full portion published all of it, and has not said so.
            if state.read == last and state.stage != Stage.SENDING:
                return
            if state.read < last and time.time() * 1000 > state.deadline_ms:
                raise expired(state)
            with self._budget(state) as budget:
                Sending(self._config, self._preparation(state), owner, source, state, budget, told).run(last)

    @contextmanager
    def _budget(self, state: BatchState) -> Iterator[Budget | None]:
        if state.price_ceiling is None:
            yield None
            return
        with self._collecting(state) as collector:
            yield Budget(state.price_ceiling, collector)

    @contextmanager
    def _caught_up(self, until_s: float = math.inf) -> Iterator[tuple[BatchStatus, Collector]]:
        """How it stands now, or as much of that as can be read until then."""
        with self._states() as states, self._collecting(self._in(states)) as collector:
            collector.catch_up(until_s)
            state = self._in(states)  # again: newer than every reply, so that none is missed that it counts
            yield BatchStatus.of(state, collector.tally(), collector.gap), collector

    @contextmanager
    def _states(self) -> Iterator[StateLog]:
        with closing(StateLog(self._config, self._codec)) as states:
            yield states

    def _in(self, states: StateLog) -> BatchState:
        state = states.read().get(self.batch_id)
        if state is None:
            raise UnknownBatch(self.batch_id, self._config.kafka.topics.batches)
        return state

    @contextmanager
    def _collecting(self, state: BatchState) -> Iterator[Collector]:
        with closing(Collector(self._config, self._codec, state, self._journals)) as collector:
            yield collector

    def _preparation(self, state: BatchState) -> Preparation:
        named = None if state.reply_topic == self._config.kafka.topics.replies else state.reply_topic
        return Preparation(self._config, self._codec, None, state.tenant, named)

    def _source(self, state: BatchState, file: Path | str | None) -> Source:
        at = Path(file or state.source)
        if not at.is_file():
            raise ForebayError(f"{at}: there is no such file; say with --file where it is by now")
        if digest_of(at) != state.source_digest:
            raise ChangedFile(state, at)
        return open_source(at, msgspec.json.decode(state.options, type=RowOptions), self._config)


def known_batches(config: Config | None = None) -> list[BatchState]:
    """All batches that Kafka knows, the one that changed last first.

    Raises:
        BrokerUnavailable: they cannot be read.
    """
    config = config or load_config()
    with closing(StateLog(config, codec_for(config))) as states:
        return list(states.read().values())[::-1]


def default_journals() -> Path:
    """Where journals lie if nothing else is said: the user's folder for caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forebay" / "batches"


def _check_unchanged(state: BatchState, completion_window_s: float | None, reply_topic: str | None) -> None:
    """See that nothing else is said of the window and of replies than when the batch was begun.

    Raises:
        InvalidRequest: something is.
    """
    window_s = (state.deadline_ms - state.created_ms) / 1000
    said = {"completion_window_s": (completion_window_s, window_s), "reply_topic": (reply_topic, state.reply_topic)}
    for name, (now, first) in said.items():
        if now is not None and now != first:
            problem = f"is {now}, and {state.batch_id} was begun with {first}"
            raise InvalidRequest(name, problem, "leave it out, or submit another run of the file")


def _nobody(_: object) -> None:
    """Is told, and does nothing."""
