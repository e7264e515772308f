"""How much is asked of one static prefix: a hot one is spread over several keys, and so over several workers.

Interactive requests are counted in Redis, by all processes together, under their prefix and the minute in which they
were made. A HyperLogLog of their ids does not count one again that a restored job dispatches again. The spread follows
from the minute before the request's own, whose count hardly changes any more: dispatched again, a request gets the
same one, unless Redis lost the count meanwhile or was away at one of the two times.
"""

from collections.abc import Sequence

import redis
from forebay_schemas.config import Config
from forebay_schemas.records import Lane

from forebay_jobs.messages import Arrival

from .redis_store import RedisStore

_MINUTE_MS = 60_000
_KEPT_S = 900
"""A count is read for a minute, and again by a job that was restored; the rest is for whoever comes late."""


class PrefixRates:
    """Counts and spreads. Fails open: without Redis no prefix is hot."""

    def __init__(self, config: Config, store: RedisStore) -> None:
        self._hot_per_min = config.desk.hot_prefix_per_min
        self._partitions = config.kafka.partitions
        self._store = store

    def spreads(self, leaders: Sequence[Arrival]) -> list[int]:
        """Count the leaders; over how many keys the tasks of each one's prefix are spread now."""
        minutes: dict[tuple[str, int], set[str]] = {}
        for leader in leaders:
            if _is_counted(leader):
                minutes.setdefault(_minute_of(leader), set()).add(leader.asker.name)
        if not minutes:
            return [1] * len(leaders)
        rates = self._store.call(lambda client: self._count(client, minutes), dict[tuple[str, int], int]())
        return [
            spread_of(rates.get(_minute_of(leader), 0), self._hot_per_min, self._partitions)
            if _is_counted(leader)
            else 1
            for leader in leaders
        ]

    def _count(self, client: redis.Redis, minutes: dict[tuple[str, int], set[str]]) -> dict[tuple[str, int], int]:
        """Note the names under (prefix, minute) and read the count of each one's minute before: one round trip."""
        with client.pipeline(transaction=False) as pipe:
            for (prefix, minute), names in minutes.items():
                pipe.pfadd(self._key(prefix, minute), *names)
                pipe.expire(self._key(prefix, minute), _KEPT_S)
                pipe.pfcount(self._key(prefix, minute - 1))
            return dict(zip(minutes, pipe.execute()[2::3], strict=True))

    def _key(self, prefix: str, minute: int) -> str:
        return f"{self._store.prefix}:prefix:{prefix}:{minute}"


def spread_of(per_min: int, hot_per_min: int, partitions: int) -> int:
    """The least power of two that keeps a key's share within the limit, and never more keys than partitions."""
    spread = 1
    while spread < partitions and spread * hot_per_min < per_min:
        spread *= 2
    return min(spread, partitions)


def _is_counted(leader: Arrival) -> bool:
    return leader.prefix is not None and leader.asker.lane is not Lane.BATCH


def _minute_of(leader: Arrival) -> tuple[str, int]:
    return leader.prefix or "", leader.asker.created_ms // _MINUTE_MS
