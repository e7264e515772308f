"""The policies of one process: one for each namespace, each brought together with those of other processes.

A namespace is a tenant (or all that share) and a category: within it one policy decides and learns. What policies have
learned lies in Redis, by embedding model, since cosines of two models do not compare. It is loaded when a namespace is
first met here, and synced about once a second while it is in use: a process that is killed loses no more than that.
Where Redis has lost it, a process that is in use puts it back.
"""

import logging
import threading
from collections import OrderedDict
from typing import cast

import redis
from forebay_schemas.config import Config
from forebay_schemas.sections import CategoryConfig

from forebay_jobs.caches.redis_store import RedisStore

from .adaptive import AdaptiveReuse
from .bounded import BoundedReuse
from .decision import Policy
from .estimator import shipped_prior
from .fixed import FixedReuse
from .learned import VERSION, UnreadableState, merged

_HELD = 2_000
"""Namespaces in memory, some 30 kB each; one that was not used for longest goes first."""
_KEPT_S = 90 * 86_400
"""In Redis, without use."""

Name = tuple[str, str]
"""Owner and category."""

logger = logging.getLogger(__name__)


class Namespaces:
    """See the module. Held by one thread at a time through ``lock``, which all that is done to a policy needs.

    Args:
        version: of the embedding model.
    """

    def __init__(self, config: Config, store: RedisStore, version: str) -> None:
        self._config = config
        self._store = store
        self._version = version
        self._policies: OrderedDict[Name, Policy] = OrderedDict()
        self._used: set[Name] = set()
        """Since they were last synced."""
        self.lock = threading.RLock()

    def policy(self, owner: str, category: str) -> Policy:
        """The policy of a namespace.

        Args:
            owner: whose requests share it, as in ``Arrival``.
        """
        name = owner, category
        policy = self._policies.get(name)
        if policy is None:
            policy = self._policies[name] = self.peek(owner, category)
        self._policies.move_to_end(name)
        self._used.add(name)
        if len(self._policies) > _HELD:
            oldest, left = self._policies.popitem(last=False)
            if oldest in self._used:
                self._share(oldest, left)
        return policy

    def sync(self) -> None:
        """Share what was learned in the namespaces that were used since the last time. Others may decide meanwhile."""
        with self.lock:
            used = [(name, self._policies[name]) for name in self._used if name in self._policies]
            self._used.clear()
        for name, policy in used:
            self._share(name, policy)

    def peek(self, owner: str, category: str) -> Policy:
        """The policy as the stores know it, to be looked at and not to decide: nothing of it is shared."""
        policy = policy_of(self._config.category(category))
        key = self._key(owner, category)
        shared = self._store.call(lambda client: cast(bytes | None, client.get(key)), None)
        if shared is not None and policy.take() is not None:
            try:
                policy.settle(shared)
            except UnreadableState as error:
                logger.warning("what was learned under %s is left behind: %s", key, error)
                return policy_of(self._config.category(category))
        return policy

    def _key(self, owner: str, category: str) -> str:
        kind = f"{VERSION}:{self._version}:{self._config.category(category).policy}"
        return f"{self._store.prefix}:learned:{kind}:{len(owner)}:{owner}:{category}"

    def _share(self, name: Name, policy: Policy) -> None:
        key = self._key(*name)
        with self.lock:
            taken = policy.take()
        if taken is None:
            return
        shared = self._store.call(lambda client: _apply(client, key, *taken), None)
        with self.lock:
            try:
                policy.settle(shared)
            except UnreadableState as error:  # what this process did itself makes no sense
                logger.error("what was learned under %s here is forgotten: %s", key, error)
                self._policies.pop(name, None)
            if shared is None:
                self._used.add(name)


def policy_of(category: CategoryConfig) -> Policy:
    """The policy that a category asks for, which has learned nothing yet."""
    if category.policy == "fixed":
        return FixedReuse(category.similarity)
    if category.policy == "adaptive":
        return AdaptiveReuse(category.adaptive)
    return BoundedReuse(category.delta, shipped_prior())


def _apply(client: redis.Redis, key: str, change: bytes, whole: bytes) -> bytes:
    """Merge a change into a key, in one step that no other process interleaves."""

    with client.pipeline() as pipe:
        while True:
            pipe.watch(key)
            shared = cast(bytes | None, pipe.get(key))  # typed for asyncio's client too
            try:
                new = merged(shared, change, whole)
            except UnreadableState as error:
                logger.warning("what was learned under %s is replaced: %s", key, error)
                new = whole
            pipe.multi()
            pipe.set(key, new, ex=_KEPT_S)
            try:
                pipe.execute()
            except redis.WatchError:  # another process was faster
                continue
            return new
