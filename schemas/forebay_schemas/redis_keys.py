"""Walking through the keys of a Redis to find somebody's: a page at a time, so that requests go on meanwhile."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

_PAGE = 1_000
"""Keys that Redis looks at for one page: some milliseconds, in which it answers nobody else."""

T = TypeVar("T")
Say = Callable[[str], None]
Scan = Callable[[int, str, int], tuple[int, Sequence[bytes]]]
"""Redis's SCAN: from a cursor to the next one, with the keys between them that match a pattern; keys in a page."""


def keys_of(scan: Scan, prefix: str, kind: str, say: Say) -> Iterator[str]:
    """All keys of a kind, whose names begin with prefix and kind; some may come twice."""
    pattern = re.sub(r"([\[\]*?\\])", r"\\\1", f"{prefix}:{kind}:") + "*"
    looked_at = cursor = 0
    while True:
        cursor, keys = scan(cursor, pattern, _PAGE)
        looked_at += len(keys)
        say(f"{looked_at:,} keys of {kind} looked at")
        yield from (key.decode(errors="replace") for key in keys)
        if not cursor:
            return


def each_once(found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Kinds and keys without those whose key came before: Redis may name one twice while it goes through them."""
    told: set[str] = set()
    for kind, key in found:
        if key not in told:
            told.add(key)
            yield kind, key


def decoded(data: bytes | None, kind: type[T]) -> T | None:
    """What a key holds. What cannot be read, a newer version's or damaged, is nobody's."""
    try:
        return None if data is None else msgspec.msgpack.decode(data, type=kind)
    except msgspec.MsgspecError:
        return None
