"""The calls to a provider's batch endpoints, as OpenAI has them: files of requests, batches made of them, results."""

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from forebay_schemas.errors import ForebayError

from .again import retry_after_s

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

ENDPOINT = "/v1/chat/completions"
CREATE_TIMEOUT_S = 30.0
"""A partition is not given up before it is known whether a batch was made: others wait for it no longer than this."""
_OWNER = "forebay"
_PAGE = 100
_log = logging.getLogger(__name__)
_UNKNOWN = (408, 409)
"""And all from 500 on: what was asked for may have been done."""


class Response(msgspec.Struct, frozen=True):
    """What an endpoint answered to a line."""

    status_code: int
    body: Any = None


class Failure(msgspec.Struct, frozen=True):
    """Why a line has no response."""

    code: str | None = None


class BatchResult(msgspec.Struct, frozen=True):
    """A line of an output or error file; of the input file the id alone."""

    custom_id: str
    response: Response | None = None
    error: Failure | None = None


class BatchCallFailed(ForebayError):
    """The provider did not do what it was asked for.

    Attributes:
        status: of its answer; None where there was none.
        again_s: for how long it wants no further call, above 0; None where it does not say.
    """

    def __init__(self, message: str, status: int | None = None, again_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.again_s = again_s

    @property
    def refused(self) -> bool:
        """Whether it is sure that nothing was done."""
        return self.status is not None and self.status < 500 and self.status not in _UNKNOWN


class BatchCalls:
    """The batches of one model of one installation.

    Args:
        owner: what they are marked with, at most 512 characters: others may use the same account.

    Every call raises ``BatchCallFailed``.
    """

    def __init__(self, client: "AsyncOpenAI", headers: Mapping[str, Any], owner: str) -> None:
        self._client = client
        self._headers: dict[str, Any] = dict(headers)
        self._owner = owner

    async def upload(self, lines: bytes) -> str:
        """Keep a file of requests; its id."""
        with self._told("keeping a file"):
            file = ("requests.jsonl", lines)
            kept = await self._client.files.create(file=file, purpose="batch", extra_headers=self._headers)
        return kept.id

    async def create(self, file_id: str) -> "Batch":
        """Have the requests of a file answered within a day; it is charged for from here on."""
        with self._told("making a batch"):
            return await self._client.batches.create(
                input_file_id=file_id,
                endpoint=ENDPOINT,
                completion_window="24h",
                metadata={_OWNER: self._owner},
                extra_headers=self._headers,
                timeout=CREATE_TIMEOUT_S,
            )

    async def made_since(self, since_s: float) -> AsyncIterator["Batch"]:
        """Ours since then (seconds since the epoch), the newest first."""
        with self._told("listing batches"):
            async for batch in self._client.batches.list(limit=_PAGE, extra_headers=self._headers):
                if batch.created_at < since_s:
                    return
                if (batch.metadata or {}).get(_OWNER) == self._owner:
                    yield batch

    async def retrieve(self, batch_id: str) -> "Batch":
        """How a batch is getting on."""
        with self._told("asking for a batch"):
            return await self._client.batches.retrieve(batch_id, extra_headers=self._headers)

    async def cancel(self, batch_id: str) -> None:
        """Stop a batch; what is answered of it by then is kept, and charged for."""
        with self._told("cancelling a batch"):
            await self._client.batches.cancel(batch_id, extra_headers=self._headers)

    async def delete(self, file_id: str) -> None:
        """Give up a file."""
        with self._told("deleting a file"):
            await self._client.files.delete(file_id, extra_headers=self._headers)

    async def results(self, file_id: str) -> AsyncIterator[BatchResult]:
        """What a file tells of each of its lines; it may be larger than the memory."""
        async for line in self._lines(file_id):
            try:
                yield msgspec.json.decode(line, type=BatchResult)
            except msgspec.DecodeError:
                _log.warning("passing over a line of file %s, which is none of a batch", file_id)

    async def _lines(self, file_id: str) -> AsyncIterator[bytes]:
        with self._told("reading a file"):
            content = self._client.files.with_streaming_response.content
            async with content(file_id, extra_headers=self._headers) as response:
                rest = b""
                # By hand: a library's lines also end at characters that JSON texts may hold as they are.
                async for piece in response.iter_bytes():
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in filter(bytes.strip, whole):
                        yield line
                if rest.strip():
                    yield rest

    @staticmethod
    @contextmanager
    def _told(what: str) -> Iterator[None]:
        """The libraries' errors in our words, without those of the provider, which may quote a prompt."""
        import httpx2
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            message = f"{what}: status {error.status_code} ({error.code or error.type or 'no code'})"
            raise BatchCallFailed(message, error.status_code, retry_after_s(error.response.headers)) from None
        except (openai.APIError, httpx2.HTTPError, ValueError) as error:
            raise BatchCallFailed(f"{what}: no answer ({type(error.__cause__ or error).__name__})") from None
