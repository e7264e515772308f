"""Removes what Redis keeps at the gateways of a tenant, or of one of its users: batches, files, answers for repeats.

Walks through all keys, a page at a time, so that requests go on meanwhile; a tenant's own lists a full Redis may have
dropped.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import redis
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.redis_keys import Say, decoded, each_once, keys_of

from .store import Kept, StoredFile, server


class GatewayEraser:
    """Of one tenant, or of one of its users.

    A user's are the answers that are kept for repeats of calls that named the user. Files and batches are of a tenant
    alone: nobody can tell whose rows they hold.

    Raises:
        ForebayError: of every method, Redis does not answer.
    """

    def __init__(self, config: Config, tenant: str, user: str | None) -> None:
        self._store: Any = redis.Redis.from_url(**server(config))  # typed for asynchronous clients too
        self._setting = "redis.url" if config.gateway.redis_url is None else "gateway.redis_url"
        self._prefix = f"{config.kafka.topic_prefix}:gateway"
        self._tenant = tenant
        self._user = user

    def count(self, say: Say) -> Counter[str]:
        """How many keys there are, by kind."""
        with self._answering():
            return Counter(kind for kind, _ in self._theirs(say))

    def undivided(self, say: Say) -> int:
        """How many files and batches stay because they are of the tenant alone."""
        with self._answering():
            return sum(kind in ("batches", "files") for kind, _ in self._of_tenant(say)) if self._user else 0

    def erase(self, say: Say) -> Counter[str]:
        """Remove them; how many there were, by kind."""
        erased: Counter[str] = Counter()
        with self._answering():
            for kind, key in self._theirs(say):
                self._store.unlink(key)
                if kind == "batches":
                    self._store.srem(f"{self._prefix}:open-batches", key.rpartition(":")[2])
                erased[kind] += 1
        return erased

    def _theirs(self, say: Say) -> Iterator[tuple[str, str]]:
        """Kind and key of each, once."""
        return each_once(self._found(say))

    def _found(self, say: Say) -> Iterator[tuple[str, str]]:
        if self._user is None:
            yield from self._of_tenant(say)
        for key in self._keys("repeat", say):
            if self._is_theirs(key, decoded(self._store.get(key), Kept)):
                yield "kept answers", key

    def _of_tenant(self, say: Say) -> Iterator[tuple[str, str]]:
        # First: whoever works on a batch that is gone leaves it, and takes back a file of its answers.
        for key in self._keys("batch", say):
            if self._store.hget(key, "tenant") == msgspec.json.encode(self._tenant):
                yield "batches", key
        for key in self._keys("file", say):
            file = decoded(self._store.get(key), StoredFile)
            if file is not None and file.tenant == self._tenant:
                yield "files", key
                if self._store.exists(file.contents):
                    yield "contents of files", file.contents
        # Of an upload that broke off, or of a file that was written again.
        for key in self._keys("contents", say):
            if self._is_own("contents", key):
                yield "contents of files", key
        for kind in ("batches", "files"):
            if self._store.exists(key := f"{self._prefix}:{kind}:{self._tenant}"):
                yield "lists", key

    def _is_theirs(self, key: str, kept: Kept | None) -> bool:
        reply = kept.reply if kept else None
        if self._user is not None and (reply is None or reply.user != self._user):
            return False
        # Names did not say the tenant in versions before.
        return self._is_own("repeat", key) or (reply is not None and reply.tenant == self._tenant)

    def _is_own(self, kind: str, key: str) -> bool:
        """Whether its name says the tenant."""
        return key.rpartition(":")[0] == f"{self._prefix}:{kind}:{self._tenant}"

    def _keys(self, kind: str, say: Say) -> Iterator[str]:
        return keys_of(self._store.scan, self._prefix, kind, say)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise ForebayError(
                f"{self._setting}: Redis does not answer ({type(error).__name__}), so it is not known what it keeps for"
                " the gateways; see that it runs"
            ) from None
