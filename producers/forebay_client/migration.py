"""Brings Forebay into a service that calls a provider directly: mirrored first, then for more and more of its users."""

import asyncio
import hashlib
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self, Unpack

from forebay_schemas.errors import ConfigError, ForebayError
from forebay_schemas.records import Reply, Request

from .asyncio_client import AsyncClient
from .client import Client
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
"""After so many failures in a row Forebay is left alone, so that not every user waits to see it fail."""
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
        problem: why it is not, where it should have been.
    """

    text: str
    source: Source
    reply: Reply | None = None
    problem: ForebayError | None = None


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
    problem: ForebayError | None


OnMirrored = Callable[[Mirrored], object]


class _Course:
    """How far a migration is, and whether Forebay may be asked just now. Safe to share between threads."""

    def __init__(self, client: Client | AsyncClient, stage: Stage, name: str) -> None:
        if not callable(stage):
            _share(stage)
        self._tenant = client.tenant
        self._stage = stage if callable(stage) else lambda: stage
        self._name = name
        self._failures = 0
        self._left_alone_until_s = 0.0

    def source(self, question: Question | None, fields: RequestFields) -> Source | None:
        """Who is to answer; None: the direct call, and Forebay is asked too. ``FALLBACK`` while it is left alone."""
        stage = self._stage()
        share = _share(stage)
        if stage == "shadow":
            return None
        if self._lot(question, fields.get("tenant"), fields.get("user")) >= share:
            return Source.DIRECT
        return Source.FALLBACK if time.monotonic() < self._left_alone_until_s else Source.FOREBAY

    def answered(self, reply: Reply) -> Answer:
        """Forebay did."""
        self._failures = 0
        return Answer(reply.text, Source.FOREBAY, reply)

    def failed(self, problem: ForebayError) -> None:
        """It did not."""
        self._failures += 1
        _log.warning("the direct call answers in place of Forebay: %s", problem)
        if self._failures >= FAILURES_TO_LEAVE:
            self._left_alone_until_s = time.monotonic() + LEFT_ALONE_S

    def _lot(self, question: Question | None, tenant: str | None, user: str | None) -> float:
        """The place of whoever asks among all, in [0, 1)."""
        if isinstance(question, Request):
            tenant, user = tenant or question.tenant, user or question.user
        named = json.dumps([self._name, tenant or self._tenant, user])
        return int.from_bytes(hashlib.blake2b(named.encode(), digest_size=6).digest()) / 2**48


class Migration:
    """Answers by the direct call, by Forebay, or by both, as far as a migration is. Its threads can share it.

    Use it as a context manager, or call ``close``. It does not close the client.

    Args:
        client: Forebay's.
        direct: the service's own call. What it raises, ``ask`` raises.
        stage: one of ``SHARES``; or a function that tells it for each request, such as a look at a feature flag: the
            stage can change then without a restart.
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
        self._mirror = ThreadPoolExecutor(_MOST_MIRRORED, thread_name_prefix="forebay-mirror")
        self._room = threading.BoundedSemaphore(_MOST_MIRRORED)

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
            ConfigError: the function that tells the stage told none.
            Exception: what the direct call raises.
        """
        source = self._course.source(question, fields)
        if source is None:
            return Answer(self._mirrored(question, fields, within_s), Source.DIRECT)
        if source is not Source.FOREBAY:
            return Answer(self._direct(question, **fields), source)
        try:
            reply = self._client.ask(question, timeout_s=within_s, **fields)
        except ForebayError as problem:
            self._course.failed(problem)
            return Answer(self._direct(question, **fields), Source.FALLBACK, problem=problem)
        return self._course.answered(reply)

    def close(self) -> None:
        """Wait for what is being mirrored, which takes no longer than ``within_s`` of the last ``ask``."""
        self._mirror.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _mirrored(self, question: Question | None, fields: RequestFields, within_s: float) -> str:
        """The direct call's answer, while Forebay is asked on another thread."""
        shown: Future[str | None] = Future()
        if self._room.acquire(blocking=False):
            self._mirror.submit(self._ask_too, question, fields, within_s, shown)
        try:
            text = self._direct(question, **fields)
        except BaseException:
            shown.set_result(None)
            raise
        shown.set_result(text)
        return text

    def _ask_too(
        self, question: Question | None, fields: RequestFields, within_s: float, shown: Future[str | None]
    ) -> None:
        try:
            reply = problem = None
            try:
                reply = self._client.ask(question, timeout_s=within_s, **fields)
            except ForebayError as error:
                problem = error
            if self._on_mirrored is not None:
                self._on_mirrored(Mirrored(question, shown.result(), reply, problem))
        except Exception:
            _log.exception("a mirrored request is not told of")
        finally:
            self._room.release()


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

    async def ask(
        self, question: Question | None = None, *, within_s: float = 10.0, **fields: Unpack[RequestFields]
    ) -> Answer:
        """As ``Migration.ask``."""
        source = self._course.source(question, fields)
        if source is None:
            return Answer(await self._mirrored(question, fields, within_s), Source.DIRECT)
        if source is not Source.FOREBAY:
            return Answer(await self._direct(question, **fields), source)
        try:
            reply = await self._client.ask(question, timeout_s=within_s, **fields)
        except ForebayError as problem:
            self._course.failed(problem)
            return Answer(await self._direct(question, **fields), Source.FALLBACK, problem=problem)
        return self._course.answered(reply)

    async def close(self) -> None:
        """As ``Migration.close``."""
        await asyncio.gather(*self._mirrors)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.close()

    async def _mirrored(self, question: Question | None, fields: RequestFields, within_s: float) -> str:
        shown: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        if len(self._mirrors) < _MOST_MIRRORED:
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
            except ForebayError as error:
                problem = error
            if self._on_mirrored is not None:
                self._on_mirrored(Mirrored(question, await shown, reply, problem))
        except Exception:
            _log.exception("a mirrored request is not told of")


def _share(stage: str) -> float:
    if stage not in SHARES:
        raise ConfigError(f"stage: {stage!r} is none; use one of {', '.join(SHARES)}")
    return SHARES[stage]
