"""Telling a first reply from its repeats, in bounded memory."""

from collections import OrderedDict

LIMIT = 100_000
"""Replies that are remembered. A restored job writes again what it wrote since its last checkpoint, which is
2 s by default: at 5,000 replies a second a tenth of this. One entry takes about 200 bytes."""


class SeenReplies:
    """The last ``limit`` replies, by tenant and request id. Not safe to share between threads."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._keys: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add(self, tenant: str, request_id: str) -> bool:
        """Remember a reply; False where it is a repeat of a remembered one."""
        key = (tenant, request_id)
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > self._limit:
            self._keys.popitem(last=False)
        return True
