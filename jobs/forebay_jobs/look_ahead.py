"""Looks up by meaning, in one batch, what waits in all buckets of a slot.

The timers of buckets fire one after the other, each with the few leaders of its own, while many questions are embedded
in hardly more time than a few. So the first bucket whose timer fires has the others' leaders looked up with its own,
and those find it done. This is of one process and one life: what it does not know each bucket looks up itself.
"""

from collections.abc import Sequence

from .caches.semantic import Found, SemanticCache
from .messages import Arrival


class LookAhead:
    """See the module. Each arrival is looked up once."""

    def __init__(self, semantic: SemanticCache, most: int) -> None:
        """
        Args:
            most: arrivals of other buckets in one batch.
        """
        self._semantic = semantic
        self._most = most
        self._waiting: dict[str, Arrival] = {}
        self._found: dict[str, Found] = {}

    def gather(self, arrival: Arrival) -> None:
        """This one is going to be asked for, by its bucket."""
        self._waiting[arrival.asker.name] = arrival

    def drop(self, name: str) -> None:
        """This one, by its asker's name, is not going to be asked for any more."""
        self._waiting.pop(name, None)
        self._found.pop(name, None)

    def find(self, arrivals: Sequence[Arrival], now_ms: int) -> list[Found]:
        """What is known about a bucket's arrivals. Raises what ``SemanticCache.find`` raises; then the other buckets'
        arrivals are left to them."""
        new = {one.asker.name: one for one in arrivals if one.asker.name not in self._found}
        if new:
            others = [name for name in self._waiting if name not in new][: self._most]
            batch = [*new.values(), *(self._waiting[name] for name in others)]
            for name in (*new, *others):
                self._waiting.pop(name, None)
            found = self._semantic.find(batch, now_ms)
            self._found.update((one.asker.name, what) for one, what in zip(batch, found, strict=True))
        return [self._found.pop(one.asker.name) for one in arrivals]
