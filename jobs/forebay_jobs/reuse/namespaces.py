"""The policies of one process: one for each namespace, each brought together with those of other processes.

A namespace is a tenant (or all that share) and a category: within it one policy decides and learns. Categories without
settings of their own are one namespace, since there may be as many as requests name. What policies have learned lies in
Redis, by embedding model, since cosines of two models do not compare. It is loaded when a namespace is first met here,
and synced about once a second while it is in use: a process that is killed loses no more than that. Where Redis has
lost it, a process that is in use puts it back, or what the job's checkpoints kept does (``memory``).
"""

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import cast

import redis
from forebay_schemas.categories import CategoryConfig
from forebay_schemas.config import Config

from forebay_jobs.arms import ARM, Arms, arm_in, tenant_owner
from forebay_jobs.caches.redis_store import RedisStore

from .adaptive import AdaptiveReuse
from .bounded import BoundedReuse
from .decision import Policy
from .estimator import Prior, prior_for
from .fixed import FixedReuse
from .learned import VERSION, UnreadableState, merged, richest

KEPT_S = 90 * 86_400
"""Without use."""
_HELD = 2_000
"""Namespaces in memory, some 30 kB each; one that was not used for longest goes first."""

Name = tuple[str, str]
"""Owner and category."""

logger = logging.getLogger(__name__)


class Namespaces:
    """See the module. Held by one thread at a time through ``lock``, which all that is done to a policy needs; nobody
    waits for Redis with it.

    Args:
        version: of the embedding model.
    """

    def __init__(self, config: Config, store: RedisStore, version: str, arms: Arms | None = None) -> None:
        self._arms = arms or Arms(config)
        self._store = store
        self._version = version
        self._prior = prior_for(config)
        self._policies: OrderedDict[Name, Policy] = OrderedDict()
        self._used: set[Name] = set()
        """Since they were last synced."""
        self._left: list[tuple[Name, Policy]] = []
        """Used, and no longer held."""
        self._offered: dict[str, bytes] = {}
        self._taught: dict[str, bytes] = {}
        self.lock = threading.RLock()

    def meet(self, names: Iterable[Name]) -> None:
        """Load what is known of namespaces that are not held here, in one round trip; to be done before they decide.

        Args:
            names: owners and categories, as requests name them.
        """
        with self.lock:
            new = [name for name in {self._name(*name) for name in names} if name not in self._policies]
        if not new:
            return
        met = dict(zip(new, self._load(new), strict=True))
        with self.lock:
            for name, policy in met.items():
                self._policies.setdefault(name, policy)

    def policy(self, owner: str, category: str) -> Policy:
        """The policy of a namespace; one that was not met has learned nothing.

        Args:
            owner: whose requests share it, as in ``Arrival``.
        """
        name = self._name(owner, category)
        policy = self._policies.get(name)
        if policy is None:
            policy = self._policies[name] = policy_of(self._settings(name), self._prior)
        self._policies.move_to_end(name)
        self._used.add(name)
        if len(self._policies) > _HELD:
            oldest, left = self._policies.popitem(last=False)
            if oldest in self._used:
                self._left.append((oldest, left))
        return policy

    def sync(self) -> None:
        """Share what was learned in the namespaces that were used since the last time. Others may decide meanwhile."""
        with self.lock:
            used = [(name, self._policies[name]) for name in self._used if name in self._policies]
            used += self._left
            self._used.clear()
            self._left.clear()
        for name, policy in used:
            self._share(name, policy)

    def peek(self, owner: str, category: str) -> Policy:
        """The policy as the stores know it, to be looked at and not to decide: nothing of it is shared."""
        (policy,) = self._load([self._name(owner, category)])
        return policy

    def pool(self, category: str) -> str:
        """See ``pool_of``."""
        return pool_of(category, self._arms.config(None))

    def offer(self, key: str, learned: bytes) -> None:
        """Hand back what was taken as ``taught``: it counts where the stores know less."""
        with self.lock:
            self._offered[key] = richest(self._offered.get(key), learned) or learned
            if richest(self._taught.get(key), learned) == learned:
                self._taught.pop(key, None)

    def taught(self, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """All that is known of namespaces that were synced since they were last taken here, those with a wanted key."""
        with self.lock:
            keys = [key for key in self._taught if wanted(key)]
            return {key: self._taught.pop(key) for key in keys}

    def forget(self, tenant: str) -> None:
        """Let nothing be known of a tenant's namespaces, here and as far as they are held here in Redis."""
        with self.lock:
            held = {name: self._key(name) for name in self._policies}
            keys = {key for key in (*held.values(), *self._offered, *self._taught) if is_of(key, tenant)}
            gone = {name for name, key in held.items() if key in keys}
            self._left = [(name, policy) for name, policy in self._left if not is_of(self._key(name), tenant)]
            self._used -= gone
            for name in gone:
                del self._policies[name]
            for key in keys:
                self._offered.pop(key, None)
                self._taught.pop(key, None)
        if keys:
            self._store.call(lambda client: client.delete(*keys), None)

    def _name(self, owner: str, category: str) -> Name:
        return owner, pool_of(category, self._arms.config(arm_in(owner)))

    def _settings(self, name: Name) -> CategoryConfig:
        owner, category = name
        return self._arms.config(arm_in(owner)).category(category)

    def _key(self, name: Name) -> str:
        owner, category = name
        kind = f"{VERSION}:{self._version}:{self._settings(name).policy}"
        return f"{self._store.prefix}:learned:{kind}:{len(owner)}:{owner}:{category}"

    def _load(self, names: list[Name]) -> list[Policy]:
        keys = [self._key(name) for name in names]
        nothing: list[bytes | None] = [None] * len(keys)
        shared = self._store.call(lambda client: cast(list[bytes | None], client.mget(keys)), nothing)
        policies: list[Policy] = []
        for name, key, data in zip(names, keys, shared, strict=True):
            policy = policy_of(self._settings(name), self._prior)
            known = richest(data, self._offered.get(key))
            if known is not None and policy.take() is not None:
                try:
                    policy.settle(known)
                except UnreadableState as error:
                    logger.warning("what was learned under %s is left behind: %s", key, error)
                    policy = policy_of(self._settings(name), self._prior)
            policies.append(policy)
        return policies

    def _share(self, name: Name, policy: Policy) -> None:
        key = self._key(name)
        with self.lock:
            taken = policy.take()
            offered = self._offered.get(key)
        if taken is None:
            return
        shared = self._store.call(lambda client: _apply(client, key, offered, *taken), None)
        with self.lock:
            try:
                policy.settle(shared)
            except UnreadableState as error:  # what this process did itself makes no sense
                logger.error("what was learned under %s here is forgotten: %s", key, error)
                self._policies.pop(name, None)
                return
            self._taught[key] = shared or taken[1]
            if shared is None:
                self._used.add(name)
            else:
                self._offered.pop(key, None)


def is_of(key: str, tenant: str) -> bool:
    """Whether what was learned under a key is of a tenant, in whichever arm."""
    return re.search(rf":learned:.*?:\d+:{re.escape(tenant_owner(tenant))}[:{ARM}]", key) is not None


def pool_of(category: str, config: Config) -> str:
    """The category of the namespace that a category's requests are in."""
    return category if category in config.categories else "default"


def policy_of(category: CategoryConfig, prior: Prior) -> Policy:
    """The policy that a category asks for, which has learned nothing yet."""
    if category.policy == "fixed":
        return FixedReuse(category.similarity)
    if category.policy == "adaptive":
        return AdaptiveReuse(category.adaptive)
    return BoundedReuse(category.delta, prior)


def _apply(client: redis.Redis, key: str, offered: bytes | None, change: bytes, whole: bytes) -> bytes:
    """Merge a change into a key, in one step that no other process interleaves.

    Args:
        offered: an older keeping of the same, which counts where the key knows less.
    """

    with client.pipeline() as pipe:
        while True:
            pipe.watch(key)
            shared = cast(bytes | None, pipe.get(key))  # typed for asyncio's client too
            try:
                new = merged(richest(shared, offered), change, whole)
            except UnreadableState as error:
                logger.warning("what was learned under %s is replaced: %s", key, error)
                new = whole
            pipe.multi()
            pipe.set(key, new, ex=KEPT_S)
            try:
                pipe.execute()
            except redis.WatchError:  # another process was faster
                continue
            return new
