"""Answers that were given by meaning, as far as they may still be explained or complained about; in Redis."""

import contextlib
from collections.abc import Sequence
from typing import cast

import msgspec
import redis
from forebay_schemas.config import Config
from forebay_schemas.records import Lane
from redis.client import Pipeline

from forebay_jobs.messages import Asker, tenant_of
from forebay_jobs.reuse.decision import Decision

from .redis_store import RedisStore

LISTED = 1_000
"""Of all hits, those that are kept in order: the most doubtful ones, and those that were complained about."""
REWORDING = "rewording"
"""The voice of somebody who asked again in other words."""


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that was given by meaning."""

    name: str
    """Of the request, as ``Asker.name``."""
    owner: str
    category: str
    digest: str
    """Of the entry that it came from."""
    question: str
    context: str | None = None
    """What the question was asked in, as in ``Arrival``."""
    matched_question: str
    decision: Decision
    given_ms: int
    user: str | None = None
    vector: bytes = b""
    """The question's embedding, float32, where its user may ask again in other words."""

    @property
    def doubt(self) -> float:
        """How much there is to look at, in [0, 1): the chance that it was wrong, or how far the questions are apart."""
        if self.decision.wrong is not None:
            return self.decision.wrong
        return max(0.0, 1.0 - (self.decision.similarity or 0.0)) / 2.0


class KnownHit(msgspec.Struct, frozen=True, kw_only=True):
    """A hit as it is listed."""

    hit: Hit
    complaint: str | None = None
    """Whose voice said that it was wrong: a feedback's source, or ``rewording``."""


class HitStore:
    """See the module. Every method fails open; safe to share between threads."""

    def __init__(self, config: Config, store: RedisStore) -> None:
        self._store = store
        self._kept_s = config.semantic.hits_kept_s
        self._rewording_s = config.semantic.rewording_s

    def note(self, hits: Sequence[Hit]) -> None:
        """Remember hits, and which was the last of each user. What nobody may look at any more leaves the list."""
        if hits:
            self._store.call(lambda client: self._note(client, hits), None)

    def last_of(self, askers: Sequence[Asker]) -> list[Hit | None]:
        """The hit that each asker's user was given a moment ago; None for those without a user or hit, and on the batch
        lane, where rows follow each other and nobody reads an answer before the next."""
        persons = [asker.user is not None and asker.lane is Lane.INTERACTIVE for asker in askers]
        if not self._rewording_s or not any(persons):
            return [None] * len(askers)
        keys = [self._last_key(asker.tenant, asker.user or "") for asker in askers]
        nothing: list[bytes | None] = [None] * len(keys)
        values = self._store.call(lambda client: cast(list[bytes | None], client.mget(keys)), nothing)
        hits = [_decoded(value) for value in values]
        return [hit if person else None for hit, person in zip(hits, persons, strict=True)]

    def mark(self, hit: Hit, voice: str | None) -> bool:
        """Note whose voice says that a hit was wrong, None: nobody's any more; False while Redis is away."""
        return self._store.call(lambda client: self._mark(client, hit, voice), False)

    def look(self, name: str) -> Sequence[KnownHit] | None:
        """The hit under a request's name, if there is one; None while Redis is away."""
        return self._store.call(lambda client: self._read(client, [name]), None)

    def find(self, name: str) -> KnownHit | None:
        """The hit under a request's name."""
        return next(iter(self.look(name) or ()), None)

    def worst(self, count: int) -> list[KnownHit]:
        """The hits that most likely were wrong, those that were complained about first."""
        return self._store.call(lambda client: self._worst(client, count), [])

    def add_notes(self, pipe: Pipeline, hits: Sequence[Hit]) -> None:
        """See ``note``."""
        for hit in hits:
            data = msgspec.msgpack.encode(hit)
            # What is read again after a failure of the job is noted again, and keeps its complaint.
            pipe.hset(self._key(hit.name), mapping={"hit": data})
            pipe.expire(self._key(hit.name), self._kept_s)
            if hit.user and hit.vector and self._rewording_s:
                pipe.set(self._last_key(tenant_of(hit.name)[0], hit.user), data, ex=self._rewording_s)
        pipe.zadd(self._order_key, {hit.name: hit.doubt for hit in hits}, gt=True)
        pipe.zremrangebyrank(self._order_key, 0, -LISTED - 1)
        pipe.expire(self._order_key, self._kept_s)

    def _note(self, client: redis.Redis, hits: Sequence[Hit]) -> None:
        with client.pipeline(transaction=False) as pipe:
            self.add_notes(pipe, hits)
            pipe.execute()

    def _mark(self, client: redis.Redis, hit: Hit, voice: str | None) -> bool:
        with client.pipeline(transaction=False) as pipe:
            if voice is None:
                pipe.hdel(self._key(hit.name), "complaint")
            else:
                pipe.hset(self._key(hit.name), "complaint", voice)
            pipe.zadd(self._order_key, {hit.name: hit.doubt + (voice is not None)})
            pipe.execute()
        return True

    def _worst(self, client: redis.Redis, count: int) -> list[KnownHit]:
        names = cast(list[bytes], client.zrevrange(self._order_key, 0, LISTED))  # typed for asyncio's client too
        known = self._read(client, [name.decode() for name in names])
        left = {one.hit.name for one in known}
        gone = [name for name in names if name.decode() not in left]
        if gone:
            client.zrem(self._order_key, *gone)
        return known[:count]

    def _read(self, client: redis.Redis, names: Sequence[str]) -> list[KnownHit]:
        with client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(self._key(name), ["hit", "complaint"])
            rows = pipe.execute()
        known = ((_decoded(data), complaint) for data, complaint in rows)
        return [KnownHit(hit=hit, complaint=voice.decode() if voice else None) for hit, voice in known if hit]

    def _key(self, name: str) -> str:
        return f"{self._store.prefix}:hit:{name}"

    def _last_key(self, tenant: str, user: str) -> str:
        return f"{self._store.prefix}:last-hit:{len(tenant)}:{tenant}:{user}"

    @property
    def _order_key(self) -> str:
        return f"{self._store.prefix}:hits"


def _decoded(data: bytes | None) -> Hit | None:
    """What cannot be read, a newer version's or damaged, counts as none."""
    if data is not None:
        with contextlib.suppress(msgspec.MsgspecError):
            return msgspec.msgpack.decode(data, type=Hit)
    return None
