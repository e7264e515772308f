"""Brings Forebay into a service that calls a provider directly: mirrored first, then for more and more of its users."""

import asyncio
import hashlib
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self, Unpack

from forebay_schemas.errors import ConfigError
from forebay_schemas.records import Reply, Request

from .asyncio_client import AsyncClient
from .client import Client
from .errors import BrokerUnavailable, RequestFailed
from .requests import Question, RequestFields

Direct = Callable[..., str]
"""The service's own call: gets the question and the fields of ``Migration.ask``, and returns the answer's text."""
AsyncDirect = Callable[..., Awaitable[str]]
"""The same as a coroutine function."""
Stage = str | Callable[[], str]
"""One of ``SHARES``, or a function that tells it for each request."""

SHARES = {"off": 0.0, "shadow": 0.0, "10": 0.1, "50": 0.5, "90": 0.9, "100": 1.0}
"""The stages, in order, and which share of the users each sends through Forebay."""
FAILURES_TO_LEAVE = 3
"""After so many failures in a row Forebay is left alone, so that not every user waits to see it fail. Requests that it
refuses do not count: the next one may be fine."""
LEFT_ALONE_S = 10.0
_MOST_MIRRORED = 32
"""At a time, each on a thread of its own. More are not mirrored: users must not notice a slow mirror."""

_log = logging.getLogger(__name__)


class Source(StrEnum):
    """Who gave an answer."""

    DIRECT = "direct"
    FOREBAY = "forebay"
    FALLBACK = "fallback"
    """The direct call, because Forebay failed or was late."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service shows.

    Attributes:
        reply: Forebay's, where the text is from there.
        problem: why it is not, where it should have been; while Forebay is left alone, its last failure.
    """

    text: str
    source: Source
    reply: Reply | None = None
    problem: Exception | None = None


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A question that both were asked, in the stage ``shadow``.

    Attributes:
        direct: what the user was shown; None where the direct call failed.
        reply: Forebay's; None where it gave no answer in time, for the ``problem``.
    """

    question: Question | None
    direct: str | None
    reply: Reply | None
    problem: Exception | None


OnMirrored = Callable[[Mirrored], object]


class _Course:
    """How far a migration is, and whether Forebay may be asked just now. Safe to share between threads."""

    def __init__(self, client: Client | AsyncClient, stage: Stage, name: str) -> None:
        if not callable(stage):
            _share(stage)
        self._tenant = client.tenant
        self._stage = stage if callable(stage) else lambda: stage
        self._name = name
        self._stage_told = True
        self._failures = 0
        self._left_alone_until_s = 0.0
        self._problem: Exception | None = None

    def source(self, question: Question | None, fields: RequestFields) -> Source | None:
        """Who is to answer; None: the direct call, and Forebay is asked too. ``FALLBACK`` while it is left alone."""
        try:
            stage = self._stage()
            share = _share(stage)
        except Exception as error:
            if self._stage_told:
                _log.error("the stage of the migration is not known, and all go direct: %s", error, exc_info=error)
            self._stage_told = False
            return Source.DIRECT
        self._stage_told = True
        if stage == "shadow":
            return None
        if self._lot(question, fields.get("tenant"), fields.get("user")) >= share:
            return Source.DIRECT
        return Source.FALLBACK if time.monotonic() < self._left_alone_until_s else Source.FOREBAY

    def answered(self, reply: Reply) -> Answer:
        """Forebay did."""
        self._failures = 0
        return Answer(reply.text, Source.FOREBAY, reply)

    def without(self, text: str, source: Source) -> Answer:
        """The direct call did, without Forebay being asked."""
        return Answer(text, source, problem=self._problem if source is Source.FALLBACK else None)

    def failed(self, problem: Exception) -> None:
        """It did not."""
        _log.warning("the direct call answers in place of Forebay: %s", problem)
        if not _others_may_meet(problem):
            return
        self._failures += 1
        if self._failures >= FAILURES_TO_LEAVE:
            _log.warning("Forebay is left alone for %g s after %d failures in a row", LEFT_ALONE_S, self._failures)
            self._problem = problem
            self._left_alone_until_s = time.monotonic() + LEFT_ALONE_S

    def _lot(self, question: Question | None, tenant: str | None, user: str | None) -> float:
        """The place of whoever asks among all, in [0, 1)."""
        if isinstance(question, Request):
            tenant, user = tenant or question.tenant, user or question.user
        named = json.dumps([self._name, tenant or self._tenant, user], default=repr)  # Forebay refuses what is no text
        return int.from_bytes(hashlib.blake2b(named.encode(), digest_size=6).digest()) / 2**48


class Migration:
    """Answers by the direct call, by Forebay, or by both, as far as a migration is. Its threads can share it.

    Use it as a context manager, or call ``close``. It does not close the client.

    Args:
        client: Forebay's.
        direct: the service's own call. What it raises, ``ask`` raises.
        stage: one of ``SHARES``; or a function that tells it for each request, such as a look at a feature flag: the
            stage can change then without a restart. While it raises, or tells none, all go direct; that is logged once.
        name: of the migration. Another name sends other users first.
        on_mirrored: called with each pair of answers in the stage ``shadow``, on a thread of its own.

    Raises:
        ConfigError: the stage is none.
    """

    def __init__(
        self,
        client: Client,
        direct: Direct,
        stage: Stage,
        *,
        name: str = "migration",
        on_mirrored: OnMirrored | None = None,
    ) -> None:
        self._course = _Course(client, stage, name)
        self._client = client
        self._direct = direct
        self._on_mirrored = on_mirrored
        self._mirrors: set[threading.Thread] = set()
        self._mirrors_lock = threading.Lock()
        self._closed = False

    def ask(
        self, question: Question | None = None, *, within_s: float = 10.0, **fields: Unpack[RequestFields]
    ) -> Answer:
        """Answer a question, as far as the migration is.

        Which users go through Forebay follows from a hash of tenant and user, so that each stays where it is, and
        who is among the first 10 % is among the first 50 %. Requests that name no user stay together by their tenant.

        Args:
            within_s: how long Forebay may take. After that, or at once when it fails, the direct call answers; so
                leave enough of the time that the user is ready to wait.
            fields: more about the request, which the direct call gets too.

        Raises:
            Exception: what the direct call raises, and nothing else.
        """
        source = self._course.source(question, fields)
        if source is None:
            return Answer(self._mirrored(question, fields, within_s), Source.DIRECT)
        if source is not Source.FOREBAY:
            return self._course.without(self._direct(question, **fields), source)
        try:
            reply = self._client.ask(question, timeout_s=within_s, **fields)
        except Exception as problem:
            self._course.failed(problem)
            return Answer(self._direct(question, **fields), Source.FALLBACK, problem=problem)
        return self._course.answered(reply)

    def close(self, timeout_s: float = 10.0) -> None:
        """Mirror nothing more, and wait so long for what is being mirrored: direct call, Forebay and ``on_mirrored``.

        What takes longer ends with the process, or before. ``ask`` answers on.
        """
        with self._mirrors_lock:
            self._closed = True
            mirrors = list(self._mirrors)
        until_s = time.monotonic() + timeout_s
        for mirror in mirrors:
            mirror.join(max(0.0, until_s - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _mirrored(self, question: Question | None, fields: RequestFields, within_s: float) -> str:
        """The direct call's answer, while Forebay is asked on another thread."""
        shown: Future[str | None] = Future()
        self._begin_mirror(question, fields, within_s, shown)
        try:
            text = self._direct(question, **fields)
        except BaseException:
            shown.set_result(None)
            raise
        shown.set_result(text)
        return text

    def _begin_mirror(
        self, question: Question | None, fields: RequestFields, within_s: float, shown: Future[str | None]
    ) -> None:
        """Ask Forebay too, unless too many are mirrored. What keeps it from being asked keeps nobody from an answer."""
        # A pool's threads would be gone in a forked process, and would keep a process from ending.
        mirror = threading.Thread(
            target=self._ask_too, args=(question, fields, within_s, shown), name="forebay-mirror", daemon=True
        )
        with self._mirrors_lock:
            if self._closed or len(self._mirrors) >= _MOST_MIRRORED:
                return
            try:
                mirror.start()
            except RuntimeError as error:
                _log.warning("a request is not mirrored: %s", error)
            else:
                self._mirrors.add(mirror)

    def _ask_too(
        self, question: Question | None, fields: RequestFields, within_s: float, shown: Future[str | None]
    ) -> None:
        try:
            reply = problem = None
            try:
                reply = self._client.ask(question, timeout_s=within_s, **fields)
            except Exception as error:
                problem = error
            if self._on_mirrored is not None:
                self._on_mirrored(Mirrored(question, shown.result(), reply, problem))
        except Exception:
            _log.exception("a mirrored request is not told of")
        finally:
            with self._mirrors_lock:
                self._mirrors.discard(threading.current_thread())


class AsyncMigration:
    """``Migration`` for coroutines, over an ``AsyncClient``: use it within one event loop, with ``async with``.

    ``direct`` is a coroutine function, and ``on_mirrored`` is called in the event loop.
    """

    def __init__(
        self,
        client: AsyncClient,
        direct: AsyncDirect,
        stage: Stage,
        *,
        name: str = "migration",
        on_mirrored: OnMirrored | None = None,
    ) -> None:
        self._course = _Course(client, stage, name)
        self._client = client
        self._direct = direct
        self._on_mirrored = on_mirrored
        self._mirrors: set[asyncio.Task[None]] = set()
        self._closed = False

    async def ask(
        self, question: Question | None = None, *, within_s: float = 10.0, **fields: Unpack[RequestFields]
    ) -> Answer:
        """As ``Migration.ask``."""
        source = self._course.source(question, fields)
        if source is None:
            return Answer(await self._mirrored(question, fields, within_s), Source.DIRECT)
        if source is not Source.FOREBAY:
            return self._course.without(await self._direct(question, **fields), source)
        try:
            reply = await self._client.ask(question, timeout_s=within_s, **fields)
        except Exception as problem:
            self._course.failed(problem)
            return Answer(await self._direct(question, **fields), Source.FALLBACK, problem=problem)
        return self._course.answered(reply)

    async def close(self, timeout_s: float = 10.0) -> None:
        """As ``Migration.close``; what takes longer is cancelled."""
        self._closed = True
        if mirrors := list(self._mirrors):
            _, late = await asyncio.wait(mirrors, timeout=timeout_s)
            for mirror in late:
                mirror.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.close()

    async def _mirrored(self, question: Question | None, fields: RequestFields, within_s: float) -> str:
        shown: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        if not self._closed and len(self._mirrors) < _MOST_MIRRORED:
            mirror = asyncio.create_task(self._ask_too(question, fields, within_s, shown))
            self._mirrors.add(mirror)
            mirror.add_done_callback(self._mirrors.discard)
        try:
            text = await self._direct(question, **fields)
        except BaseException:
            shown.set_result(None)
            raise
        shown.set_result(text)
        return text

    async def _ask_too(
        self,
        question: Question | None,
        fields: RequestFields,
        within_s: float,
        shown: asyncio.Future[str | None],
    ) -> None:
        try:
            reply = problem = None
            try:
                reply = await self._client.ask(question, timeout_s=within_s, **fields)
            except Exception as error:
                problem = error
            if self._on_mirrored is not None:
                self._on_mirrored(Mirrored(question, await asyncio.shield(shown), reply, problem))
        except Exception:
            _log.exception("a mirrored request is not told of")


def _others_may_meet(problem: Exception) -> bool:
    """Whether Forebay is away, late or broken, rather than the request one that it refuses."""
    if isinstance(problem, RequestFailed) and problem.retryable:
        return True
    return isinstance(problem, BrokerUnavailable | TimeoutError)


def _share(stage: str) -> float:
    if stage not in SHARES:
        raise ConfigError(f"stage: {stage!r} is none; use one of {', '.join(SHARES)}")
    return SHARES[stage]
