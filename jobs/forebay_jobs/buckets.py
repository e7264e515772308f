"""The keys of the desk's state: a fixed few buckets of the digest, spread evenly over Flink's slots.

Flink gives a key to a slot by key group: murmur of the key's Java hash, modulo the maximum parallelism. Names
are therefore searched so that bucket i of n falls in the key group at i/n of the range; then every parallelism
that divides n gets the same number of buckets in each slot, before and after a rescale.
"""

from functools import cache

MAX_PARALLELISM = 128
"""Flink's key groups; fixed for the life of the job's state."""

_MASK = 0xFFFFFFFF


def bucket_of(digest: str, buckets: int) -> str:
    """The bucket's name for a digest of hex digits."""
    return bucket_names(buckets)[int(digest[:8], 16) % buckets]


@cache
def bucket_names(buckets: int) -> tuple[str, ...]:
    """The names of all buckets, a power of two up to ``MAX_PARALLELISM``."""
    return tuple(_name(bucket * MAX_PARALLELISM // buckets) for bucket in range(buckets))


def key_group(key: str) -> int:
    """The key group that Flink assigns to a string key (KeyGroupRangeAssignment)."""
    return _murmur(_java_hash(key)) % MAX_PARALLELISM


def _name(group: int) -> str:
    return next(name for salt in range(100_000) if key_group(name := f"{group}.{salt}") == group)


def _java_hash(text: str) -> int:
    code = 0
    for char in text:
        code = (31 * code + ord(char)) & _MASK
    return code


def _murmur(code: int) -> int:
    """Flink's MathUtils.murmurHash of a 32-bit value."""
    code = (code * 0xCC9E2D51) & _MASK
    code = _rotate(code, 15)
    code = (code * 0x1B873593) & _MASK
    code = _rotate(code, 13)
    code = (code * 5 + 0xE6546B64) & _MASK
    code ^= 4
    code ^= code >> 16
    code = (code * 0x85EBCA6B) & _MASK
    code ^= code >> 13
    code = (code * 0xC2B2AE35) & _MASK
    code ^= code >> 16
    signed = code - (1 << 32) if code >> 31 else code
    if signed >= 0:
        return signed
    return -signed if signed != -(1 << 31) else 0


def _rotate(code: int, bits: int) -> int:
    return ((code << bits) | (code >> (32 - bits))) & _MASK
