"""Epochs: how answers stop holding, all of a scope at once, wherever they lie and before they are written.

Each scope of an answer (tenant, category, source, prompt version, model, tier, its own digest) has an epoch. An answer
carries those that held when its request was looked up, and is given only while all of them still hold. They are read in
the same round trip as the answer, so an invalidation holds for every process as soon as Redis has it, and there is no
order of generation and invalidation to get wrong.

They lie in one Redis hash for everyone and one for each tenant, and a request reads its scopes in both: what is
invalidated of one tenant alone costs no other its answers. A scope that was never invalidated is absent, but for a
hash's ``WHOLE``, which the first lookup makes of a value never used before. So where a hash is lost (evicted, flushed)
all answers under it are, which at worst forgets them, and never revives one.

What is stored of a scope is ``mark``, ``mark|floor_ms`` or ``|floor_ms``. An answer must have the same mark and be no
older than the floor. Before it, for models and tiers, goes a digest of how they are defined: a model that is deployed
anew under its old name, or a tier's changed prompt, ends the answers of before by itself.
"""

import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import redis
from forebay_schemas.canonical import category_of
from forebay_schemas.config import Config
from forebay_schemas.invalidation import Invalidation, InvalidationOutcome
from forebay_schemas.records import CacheScope, Request

from .round_trip import RoundTrip

Epochs = dict[str, str]
"""What holds by scope; empty where it was never invalidated. A tenant's scopes begin with its name and ``_OF``."""

WHOLE = "*"
"""The scope of everything under a hash."""

_OF = "\x1f"
"""Between a tenant and a scope: names hold no control characters."""
_KINDS = {"category": "category", "source": "source", "prompt_version": "prompt", "model": "model", "key": "key"}
"""What the filters of an invalidation are called as scopes."""
_NOTED_S = 7 * 86_400
"""How long a command is known to be applied: far longer than the seconds that a job can be set back."""


class EpochStore:
    """Reads and replaces epochs for one configuration, with a client that is given."""

    def __init__(self, config: Config, prefix: str) -> None:
        self._prefix = prefix
        self._definitions = definitions(config)

    def scopes(self, request: Request, digest: str) -> list[str]:
        """The scopes by which an answer to the request can be invalidated, of every model and tier that may give it."""
        named = [WHOLE, f"category:{category_of(request)}"]
        named += [f"source:{source}" for source in sorted(set(request.cache.sources))]
        if request.prompt_version is not None:
            named.append(f"prompt:{request.prompt_version}")
        named += self._definitions
        # An answer that tenants share must not fall with whichever tenant asked first.
        shared = request.cache.scope is CacheScope.SHARED
        own = [] if shared else [_owned(request.tenant, scope) for scope in named]
        return [*named, *own, f"key:{digest}"]

    def value(self, scope: str, stored: str) -> str:
        """The epoch of a scope, of what is stored."""
        return self._definitions.get(scope, "") + stored

    def ask(self, trip: RoundTrip, scopes: Iterable[str]) -> list[str]:
        """Add the reading of scopes to a round trip; they come in the order that is returned, a list for each hash."""
        fields: dict[str, list[str]] = {}
        asked: dict[str, list[str]] = {}
        for scope in scopes:
            tenant, _, field = scope.rpartition(_OF)
            fields.setdefault(tenant, []).append(field)
            asked.setdefault(tenant, []).append(scope)
        for tenant, named in fields.items():
            trip.add("HMGET", self._hash(tenant), *named)
        return [scope for of_tenant in asked.values() for scope in of_tenant]

    def told(self, client: redis.Redis, asked: Sequence[str], values: Iterable[Sequence[bytes | None]]) -> Epochs:
        """The epochs of what was asked for, each hash's ``WHOLE`` created where it is absent.

        Raises:
            redis.RedisError: it cannot be.
        """
        # Marks are only compared: different bytes must give different texts, and no error.
        stored = (value.decode("latin-1") if value else "" for of_tenant in values for value in of_tenant)
        epochs = {scope: self.value(scope, value) for scope, value in zip(asked, stored, strict=True)}
        for scope, value in epochs.items():
            if not value and (scope == WHOLE or scope.endswith(_OF + WHOLE)):
                epochs[scope] = self._create(client, scope.removesuffix(WHOLE).removesuffix(_OF))
        return epochs

    def replace(self, client: redis.Redis, invalidation: Invalidation, command: str) -> InvalidationOutcome:
        """Let the answers that an invalidation names hold no longer; applied once for each command, by its name.

        Raises:
            redis.RedisError: it is not known to be applied, and may be tried again.
        """
        scope, tenant = scope_of(invalidation), invalidation.tenant or ""
        key, note = self._hash(tenant), f"{self._prefix}:invalidated:{command}"

        def change(pipe: Any) -> InvalidationOutcome:
            if pipe.exists(note):
                return InvalidationOutcome.REPEATED
            if tenant and not pipe.exists(key):
                return InvalidationOutcome.UNKNOWN  # nothing was looked up for it, so nothing can be kept for it
            stored = (pipe.hget(key, scope) or b"").decode("latin-1")
            pipe.multi()
            pipe.hset(key, scope, invalidated(scope, stored, invalidation.before_ms).encode("latin-1"))
            pipe.set(note, "", ex=_NOTED_S)
            return InvalidationOutcome.APPLIED

        # Watched, so that of two at one time neither takes back the other's.
        transaction: Any = client.transaction  # typed for functions that return nothing
        return transaction(change, key, note, value_from_callable=True)

    def _create(self, client: redis.Redis, tenant: str) -> str:
        key, mark = self._hash(tenant), new_mark()
        with client.pipeline(transaction=False) as pipe:
            pipe.hsetnx(key, WHOLE, mark)
            pipe.hget(key, WHOLE)
            created = pipe.execute()[-1]
        # One evicted again between the two commands gets a value that nothing else has.
        return created.decode("latin-1") if created else mark

    def _hash(self, tenant: str) -> str:
        return f"{self._prefix}:epochs:{tenant}"


def definitions(config: Config) -> dict[str, str]:
    """By the scope of each model and tier, a digest of what shapes its answers; prices, times and loads do not."""
    models = {
        f"model:{name}": _digest(
            model.model_dump(
                mode="json",
                include={
                    "backend": True, "weights": True, "engine": True, "endpoint": {"url", "model"},
                    "synthetic": {"tokens"},
                },
            )
        )
        for name, model in config.models.items()
    }  # fmt: skip
    tiers = {
        f"tier:{name}": _digest(tier.model_dump(include={"system_prompt", "length_directive", "stop"}))
        for name, tier in config.tiers.items()
    }
    return models | tiers


def scopes_at(digest: str, epochs: Iterable[str]) -> list[str]:
    """The scopes of an entry, of those of a request in an equal context."""
    others = (scope for scope in epochs if not scope.startswith("key:") or _OF in scope)  # a tenant may be called so
    return [*others, f"key:{digest}"]


def epochs_of_answer(epochs: Epochs, model: str, tier: str) -> Epochs:
    """What an answer carries: the mark of each scope that it is of, but for those never invalidated."""
    marks = {scope: value.partition("|")[0] for scope, value in _of_answer(epochs, model, tier)}
    return {scope: mark for scope, mark in marks.items() if mark}


def holds(kept: Epochs, current: Epochs, model: str, tier: str, created_ms: int) -> bool:
    """Whether nothing was invalidated that an answer is of.

    Args:
        kept: what the answer carries.
        current: the epochs of all scopes that it may be of; a model or tier that is configured no more has none.
        created_ms: when it was generated, in milliseconds since the Unix epoch.
    """
    if f"model:{model}" not in current or f"tier:{tier}" not in current:
        return False
    marks = 0
    for scope, value in _of_answer(current, model, tier):
        mark, _, floor = value.partition("|")
        if kept.get(scope, "") != mark or (floor and created_ms < int(floor)):
            return False
        marks += mark != ""
    return marks == len(kept)


def fingerprint(epochs: Epochs | None) -> str:
    """Equal where the epochs are; of none (Redis did not say) empty."""
    return "" if epochs is None else _digest(epochs)


def new_mark() -> str:
    """A value that no epoch had before, on any machine."""
    return f"{time.time_ns()}-{uuid.uuid4().hex[:8]}"


def invalidated(scope: str, stored: str, before_ms: int | None) -> str:
    """What is stored of a scope after its invalidation, of all answers or of those completed before a time."""
    mark, _, floor = stored.partition("|")
    if before_ms is None:
        return new_mark()
    if scope == WHOLE:
        mark = mark or new_mark()  # as a lookup would have made it
    return f"{mark}|{max(before_ms, int(floor or 0))}"


def scope_of(invalidation: Invalidation) -> str:
    """The scope that an invalidation names, of everyone or of its tenant."""
    named = (f"{kind}:{name}" for field, kind in _KINDS.items() if (name := getattr(invalidation, field)) is not None)
    return next(named, WHOLE)


def _of_answer(epochs: Epochs, model: str, tier: str) -> Iterator[tuple[str, str]]:
    """The epochs but for those of other models and tiers, and of what was never invalidated."""
    made_by = (f"model:{model}", f"tier:{tier}")
    for scope, value in epochs.items():
        if value:
            kind = scope.rpartition(_OF)[2]
            if kind in made_by or not kind.startswith(("model:", "tier:")):
                yield scope, value


def _owned(tenant: str, scope: str) -> str:
    return f"{tenant}{_OF}{scope}" if tenant else scope


def _digest(value: Any) -> str:
    return hashlib.blake2b(msgspec.json.encode(value, order="sorted"), digest_size=8).hexdigest()
