"""The operator of feedback: it hands each thumb to the desk, where there is state."""

import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
from forebay_schemas.config import Config
from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from forebay_jobs.buckets import bucket_names
from forebay_jobs.feedback import Thumbs
from forebay_jobs.runtime import runtime_for

from .rows import THUMB, raw_bytes


class FeedbackOperator(ProcessFunction):
    """Rows of the feedback topics in; thumbs for the desk out, those on one request for one bucket."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def open(self, runtime_context: RuntimeContext) -> None:
        runtime = runtime_for(self._config)
        with runtime.locked():
            self._thumbs = Thumbs(self._config, runtime.codec)

    def process_element(self, value: Any, ctx: Any) -> Iterator[Row]:  # pyright: ignore[reportIncompatibleMethodOverride]
        thumb = self._thumbs.take(value.topic, raw_bytes(value.value))
        if thumb is not None:
            buckets = bucket_names(self._config.desk.buckets)
            bucket = buckets[zlib.crc32(thumb.name.encode()) % len(buckets)]
            yield Row(bucket=bucket, kind=THUMB, payload=msgspec.msgpack.encode(thumb))
