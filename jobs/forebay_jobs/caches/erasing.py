"""Removes what Redis keeps of a tenant, or of one of its users: answers, what was given of them, ids, and what was
learned."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any

import redis
from forebay_schemas.errors import ForebayError
from forebay_schemas.redis_keys import Say, decoded, each_once, keys_of

from forebay_jobs.messages import asker_name, tenant_of
from forebay_jobs.reuse.namespaces import is_of

from .answers import Answer
from .hits import Hit
from .redis_store import RedisStore


class Eraser:
    """Of one tenant, or of one of its users.

    A user's are the answers to requests that named the user, and what was given of them, to whomever. What tenants
    share counts as its first asker's. Sums and request ids are of a tenant alone: nobody can tell a user's part.

    Raises:
        ForebayError: of every method, Redis does not answer.
    """

    def __init__(self, store: RedisStore, tenant: str, user: str | None) -> None:
        self._store = store
        self._tenant = tenant
        self._user = user
        self._named = asker_name(tenant, "")

    def count(self, say: Say) -> Counter[str]:
        """How many keys there are, by kind."""
        return Counter(kind for kind, _ in self._theirs(say))

    def erase(self, say: Say) -> Counter[str]:
        """Remove them; how many there were, by kind."""
        erased: Counter[str] = Counter()
        for kind, key in self._theirs(say):
            self._asked(lambda client, key=key: client.delete(key))
            erased[kind] += 1
            if kind in ("hits", "listed hits"):
                name = key.partition(":hit:")[2]
                self._asked(lambda client, name=name: client.zrem(f"{self._store.prefix}:hits", name))
        return erased

    def _theirs(self, say: Say) -> Iterator[tuple[str, str]]:
        """Kind and key of each, once."""
        return each_once(self._found(say))

    def _found(self, say: Say) -> Iterator[tuple[str, str]]:
        """Answers come first, and by their digests it is known what was given of them."""
        digests: set[str] = set()
        for key in self._keys("answer", say):
            data = self._asked(lambda client, key=key: client.hget(key, "answer"))
            if _is_by(decoded(data, Answer), self._tenant, self._user):
                digests.add(key.rpartition(":")[2])
                yield "answers", key
        for kind in ("hit", "last-hit"):
            for key in self._keys(kind, say):
                if self._is_theirs(self._hit(kind, key), digests):
                    yield "hits" if kind == "hit" else "last hits", key
        if self._user is None:
            yield from self._of_tenant(say)

    def _of_tenant(self, say: Say) -> Iterator[tuple[str, str]]:
        # A hit ends by itself, and its name stays in the list of the most doubtful ones until somebody looks
        # at it; those whose hit is there were told before.
        for name in self._asked(lambda client: client.zrange(f"{self._store.prefix}:hits", 0, -1)):
            if name.startswith(self._named.encode()):
                yield "listed hits", f"{self._store.prefix}:hit:{name.decode(errors='replace')}"
        for key in self._keys("seen", say):
            if key.startswith(f"{self._store.prefix}:seen:{self._named}"):
                yield "request ids", key
        for key in self._keys("learned", say):
            if is_of(key, self._tenant):
                yield "learned", key
        # Last: with its epochs gone, no answer that is written late is given any more.
        epochs = f"{self._store.prefix}:epochs:{self._tenant}"
        if self._asked(lambda client: client.exists(epochs)):
            yield "epochs", epochs

    def _hit(self, kind: str, key: str) -> Hit | None:
        if kind == "hit":
            return decoded(self._asked(lambda client: client.hget(key, "hit")), Hit)
        return decoded(self._asked(lambda client: client.get(key)), Hit)

    def _is_theirs(self, hit: Hit | None, digests: Collection[str]) -> bool:
        if hit is None:
            return False
        asked = tenant_of(hit.name)[0] == self._tenant and self._user in (None, hit.user)
        return asked or hit.digest in digests

    def _keys(self, kind: str, say: Say) -> Iterator[str]:
        def scan(*page: Any) -> Any:
            return self._asked(lambda client: client.scan(*page))

        return keys_of(scan, self._store.prefix, kind, say)

    def _asked(self, question: Callable[[redis.Redis], Any]) -> Any:
        told = self._store.call(lambda client: (question(client),), None)
        if told is None:
            raise ForebayError("redis.url: Redis does not answer, so it is not known what it keeps; see that it runs")
        return told[0]


def _is_by(answer: Answer | None, tenant: str, user: str | None) -> bool:
    return answer is not None and answer.tenant == tenant and user in (None, answer.user)
