"""Which requests are worth asking ahead: those whose answers may be given to others, each once."""

import time
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field

import msgspec
from forebay_jobs.reuse.eligibility import Reuse, reuse_of
from forebay_schemas.canonical import digests
from forebay_schemas.config import Config
from forebay_schemas.records import CachePolicy, Lane, Request

PREFIX = "warm-"
"""Of the ids of all requests that fill caches."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that is to be answered once.

    Attributes:
        key: of ``key_of``.
    """

    key: str
    request: Request


@dataclass(slots=True)
class Sieve:
    """Lets pass what is worth asking, and counts what is not. It remembers about 150 bytes of each that passed.

    Args:
        answered: keys of what needs not be asked again.

    Attributes:
        useless: requests whose answers may be given to nobody else, by the reason.
        repeated: equal to one that passed.
        known: answered before.
        passed: worth asking.
    """

    config: Config
    answered: Container[str]
    useless: Counter[Reuse] = field(default_factory=Counter)
    repeated: int = 0
    known: int = 0
    passed: int = 0
    _keys: set[str] = field(default_factory=set)

    def take(self, request: Request) -> Wanted | None:
        """The request if it is worth asking.

        Args:
            request: a valid one; who asked it, when and until when does not matter.
        """
        reuse = reuse_of(request, self.config)
        if not reuse.allowed:
            self.useless[reuse] += 1
            return None
        key = key_of(request)
        if key in self._keys:
            self.repeated += 1
        elif key in self.answered:
            self._keys.add(key)
            self.known += 1
        else:
            self._keys.add(key)
            self.passed += 1
            return Wanted(key, request)
        return None


def to_send(wanted: Wanted, run: str, until_ms: int, refresh: bool) -> Request:
    """The request as it is sent: on the batch lane, under an id of this run, until nobody waits any more.

    The id is not that of another run although the request is the same: the job answers an id once, and who was
    interrupted before the answer came would not get it again. What was answered meanwhile is in the cache.

    Args:
        run: the run's name.
        until_ms: the deadline.
        refresh: whether it is generated anew though its answer is kept.
    """
    request = wanted.request
    policy = CachePolicy.REFRESH if refresh else CachePolicy.USE
    return msgspec.structs.replace(
        request,
        request_id=f"{PREFIX}{run}-{wanted.key}",
        created_ms=time.time_ns() // 1_000_000,
        deadline_ms=until_ms,
        lane=Lane.BATCH,
        priority=0,
        stream=False,
        cache=msgspec.structs.replace(request.cache, policy=policy),
    )


def key_of(request: Request) -> str:
    """What requests share that one answer would serve: equal ones, between the same tiers."""
    exact = digests(request).exact
    return (
        f"{exact}:{request.min_tier or ''}:{request.max_tier or ''}" if request.min_tier or request.max_tier else exact
    )
