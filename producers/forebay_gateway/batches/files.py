"""Files in Redis: uploaded in pieces, read in pieces, gone when their time is over."""

import asyncio
import hashlib
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import redis.asyncio as redis
from forebay_schemas.gateway import GatewayConfig

from ..errors import ApiError, too_large_file
from ..store import StoredFile

PIECE_BYTES = 256 * 1024
"""So much of a file is held at a time, and is one value in Redis, compressed."""
_LEVEL = 1
_UNFINISHED_S = 3_600
"""What an upload that broke off has left is gone after this."""

Read = Callable[[int], Awaitable[bytes]]
"""The next so many bytes of a file; none at its end."""


class Files:
    """The files of all tenants.

    Args:
        prefix: of every name in Redis.

    All methods raise ``RedisError`` where Redis is away.
    """

    def __init__(self, store: redis.Redis, prefix: str, settings: GatewayConfig) -> None:
        self._store: Any = store  # its types know no pipelines of coroutines
        self._prefix, self._settings = prefix, settings

    async def upload(self, tenant: str, filename: str, read: Read, file_id: str, kept_s: int | None) -> StoredFile:
        """Take in a file of requests.

        Raises:
            ApiError: it is too large, or the tenant has too much already.
        """
        held = sum(file.bytes for file in await self.of(tenant))
        room = self._settings.tenant_file_bytes - held
        largest = self._settings.max_file_bytes

        async def bounded(size: int) -> bytes:
            nonlocal room, largest
            data = await read(size)
            room, largest = room - len(data), largest - len(data)
            if largest < 0:
                raise too_large_file(self._settings.max_file_bytes)
            if room < 0:
                raise ApiError(
                    400,
                    f"file: with it {tenant} would have more than {self._settings.tenant_file_bytes:,} bytes of files"
                    " (gateway.tenant_file_bytes); delete some",
                    code="file_storage_exceeded",
                    param="file",
                )
            return data

        return await self.write(tenant, filename, "batch", bounded, file_id, kept_s)

    async def write(
        self, tenant: str, filename: str, purpose: str, read: Read, file_id: str, kept_s: int | None
    ) -> StoredFile:
        """Keep a file; one of the same id is replaced when the new one is whole.

        Args:
            kept_s: for how long; absent, and at most: ``gateway.files_kept_s``.
        """
        digest, size, pieces = hashlib.sha256(), 0, 0
        # The name says whose they are: what nobody has a file of is forgotten with the tenant too.
        contents = f"{self._prefix}:contents:{tenant}:{uuid.uuid4().hex}"
        while data := await read(PIECE_BYTES):
            digest.update(data)
            size, pieces = size + len(data), pieces + 1
            piece = await asyncio.to_thread(zlib.compress, data, _LEVEL)
            async with self._store.pipeline() as pipe:
                await pipe.rpush(contents, piece).expire(contents, _UNFINISHED_S).execute()
        now_s = int(time.time())
        most_s = self._settings.files_kept_s
        file = StoredFile(
            id=file_id,
            tenant=tenant,
            filename=filename,
            purpose=purpose,
            bytes=size,
            sha256=digest.hexdigest(),
            created_s=now_s,
            expires_s=now_s + (most_s if kept_s is None else min(kept_s, most_s)),
            contents=contents,
            pieces=pieces,
        )
        await self._put(file)
        return file

    async def get(self, tenant: str, file_id: str) -> StoredFile:
        """A file of a tenant's.

        Raises:
            ApiError: the tenant has no such file.
        """
        value = await self._store.get(self._name(file_id))
        file = msgspec.msgpack.decode(value, type=StoredFile) if value else None
        if file is None or file.tenant != tenant:
            raise no_such_file(file_id)
        return file

    async def of(self, tenant: str) -> list[StoredFile]:
        """The files of a tenant, the oldest first."""
        names = [name.decode() for name in await self._store.zrange(self._index(tenant), 0, -1)]
        async with self._store.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.get(self._name(name))
            values = await pipe.execute()
        if gone := [name for name, value in zip(names, values, strict=True) if value is None]:
            await self._store.zrem(self._index(tenant), *gone)
        return [msgspec.msgpack.decode(value, type=StoredFile) for value in values if value is not None]

    async def pieces(self, file: StoredFile) -> AsyncIterator[bytes]:
        """Its contents.

        Raises:
            ApiError: Redis was full, and dropped them.
        """
        if await self._store.llen(file.contents) != file.pieces:
            raise _dropped(file)
        return self._pieces(file)

    async def keep_until(self, file: StoredFile, until_s: int) -> None:
        """Let a file not go before a moment."""
        if file.expires_s < until_s:
            await self._put(msgspec.structs.replace(file, expires_s=until_s))

    async def delete(self, file: StoredFile) -> None:
        """Forget a file at once."""
        async with self._store.pipeline() as pipe:
            pipe.unlink(self._name(file.id), file.contents)
            pipe.zrem(self._index(file.tenant), file.id)
            await pipe.execute()

    async def _pieces(self, file: StoredFile) -> AsyncIterator[bytes]:
        for place in range(file.pieces):
            value = await self._store.lindex(file.contents, place)
            if value is None:
                raise _dropped(file)
            yield zlib.decompress(value)

    async def _put(self, file: StoredFile) -> None:
        name, index = self._name(file.id), self._index(file.tenant)
        async with self._store.pipeline() as pipe:
            pipe.set(name, msgspec.msgpack.encode(file), exat=file.expires_s)
            pipe.expireat(file.contents, file.expires_s)
            pipe.zadd(index, {file.id: file.created_s})
            await pipe.execute()

    def _name(self, file_id: str) -> str:
        return f"{self._prefix}:file:{file_id}"

    def _index(self, tenant: str) -> str:
        return f"{self._prefix}:files:{tenant}"


def no_such_file(file_id: str) -> ApiError:
    """A file that is not there, or another tenant's."""
    return ApiError(
        404, f"there is no file {file_id!a:.80}; it was deleted, or its time is over", code="file_not_found"
    )


def _dropped(file: StoredFile) -> ApiError:
    return ApiError(
        404,
        f"the contents of {file.id} are gone: Redis was full; upload the file again, and give gateways a Redis that"
        " drops nothing (gateway.redis_url)",
        code="file_not_found",
    )
