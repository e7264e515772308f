"""The policies of one process: one for each namespace, each brought together with those of other processes.

A namespace is a tenant (or all that share) and a category: within it one policy decides and learns. What policies have
learned lies in Redis, by embedding model, since cosines of two models do not compare. It is loaded when a namespace is
first met here, and synced about once a second while it is in use: a process that is killed loses no more than that.
Where Redis has lost it, a process that is in use puts it back.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
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
from .learned import UnreadableState, merged

SYNC_S = 1.0
_SYNCED_AT_ONCE = 4
"""So that a process with a thousand namespaces does not stand still for them."""
_HELD = 2_000
"""Namespaces in memory, some 30 kB each; one that was not used for longest goes first."""
_KEPT_S = 90 * 86_400
"""In Redis, without use."""

logger = logging.getLogger(__name__)


class Namespaces:
    """See the module. Held by one thread at a time through ``lock``, which all that is done to a policy needs.

    Args:
        version: of the embedding model.
    """

    def __init__(
        self, config: Config, store: RedisStore, version: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._store = store
        self._version = version
        self._monotonic = monotonic
        self._policies: OrderedDict[tuple[str, str], Policy] = OrderedDict()
        self._synced: dict[tuple[str, str], float] = {}
        self.lock = threading.RLock()

    def policy(self, owner: str, category: str) -> Policy:
        """The policy of a namespace.

        Args:
            owner: whose requests share it, as in ``Arrival``.
        """
        name = owner, category
        policy = self._policies.get(name)
        if policy is None:
            policy = self._policies[name] = policy_of(self._config.category(category))
            self._sync(name, policy)
        self._policies.move_to_end(name)
        if len(self._policies) > _HELD:
            oldest, left = self._policies.popitem(last=False)
            self._sync(oldest, left)
            self._synced.pop(oldest, None)
        return policy

    def sync(self, *, all_of_them: bool = False) -> None:
        """Share what was learned in the namespaces that are due, those first that wait for longest."""
        with self.lock:
            due_before = self._monotonic() - (0.0 if all_of_them else SYNC_S)
            due = sorted((at, name) for name, at in self._synced.items() if at <= due_before)
            for _, name in due if all_of_them else due[:_SYNCED_AT_ONCE]:
                self._sync(name, self._policies[name])

    def peek(self, owner: str, category: str) -> Policy:
        """The policy as the stores know it, to be looked at and not to decide: nothing of it is shared."""
        policy = policy_of(self._config.category(category))
        key = self._key(owner, category)
        self._store.call(
            lambda client: policy.sync(lambda _, whole: cast(bytes | None, client.get(key)) or whole), None
        )
        return policy

    def _key(self, owner: str, category: str) -> str:
        kind = f"{self._version}:{self._config.category(category).policy}"
        return f"{self._store.prefix}:learned:{kind}:{len(owner)}:{owner}:{category}"

    def _sync(self, name: tuple[str, str], policy: Policy) -> None:
        self._synced[name] = self._monotonic()
        key = self._key(*name)

        def share(client: redis.Redis) -> None:
            try:
                policy.sync(lambda change, whole: _apply(client, key, change, whole))
            except UnreadableState as error:  # of this process's own: no reason to leave Redis alone
                logger.error("what was learned under %s here is forgotten: %s", key, error)
                self._policies.pop(name, None)
                del self._synced[name]

        self._store.call(share, None)


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
                new = merged(None, change, whole)
            pipe.multi()
            pipe.set(key, new, ex=_KEPT_S)
            try:
                pipe.execute()
            except redis.WatchError:  # another process was faster
                continue
            return new
