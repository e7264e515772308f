"""The Flink types of what flows between operators, and their conversion."""

import time
from typing import Any

from pyflink.common import Row, Types
from pyflink.datastream import OutputTag

from forebay_jobs.messages import Outgoing

_BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())

OUTGOING = Types.ROW_NAMED(
    ["topic", "key", "value", "headers"], [Types.STRING(), _BYTES, _BYTES, Types.MAP(Types.STRING(), _BYTES)]
)
"""A record to write to Kafka."""

DESK_ITEM = Types.ROW_NAMED(["bucket", "kind", "payload"], [Types.STRING(), Types.STRING(), _BYTES])
"""What comes to the desk, by bucket: an arrival or a command (MessagePack), or a result (as the worker wrote it)."""

ARRIVAL = "arrival"
RESULT = "result"
CANCELLATION = "cancellation"
INVALIDATION = "invalidation"
FORGETTING = "forgetting"
THUMB = "thumb"

TO_DESK = OutputTag("to-desk", DESK_ITEM)


def outgoing_row(record: Outgoing) -> Row:
    """A record as the sink takes it."""
    return Row(topic=record.topic, key=record.key, value=record.value, headers=record.headers)


def now_ms() -> int:
    """Wall-clock time in milliseconds since the epoch, as records carry it."""
    return time.time_ns() // 1_000_000


def raw_bytes(value: Any) -> bytes:
    """A BYTES column's value; a tombstone has none."""
    return b"" if value is None else bytes(value)
