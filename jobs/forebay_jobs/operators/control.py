"""The commands' operator: each concerns some request, and which bucket that is in is not known."""

from collections.abc import Iterator
from typing import Any

import msgspec
from forebay_schemas.config import Config
from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from forebay_jobs.buckets import bucket_names
from forebay_jobs.control import Commands
from forebay_jobs.runtime import runtime_for

from .rows import CANCELLATION, raw_bytes


class ControlOperator(ProcessFunction):
    """Rows of the control topic in; cancellations for all buckets of the desk out."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def open(self, runtime_context: RuntimeContext) -> None:
        runtime = runtime_for(self._config)
        with runtime.locked():
            self._commands = Commands(runtime.codec, runtime.answers)

    def process_element(self, value: Any, ctx: Any) -> Iterator[Row]:  # pyright: ignore[reportIncompatibleMethodOverride]
        cancel = self._commands.take(raw_bytes(value.value))
        if cancel is not None:
            payload = msgspec.msgpack.encode(cancel)
            for bucket in bucket_names(self._config.desk.buckets):
                yield Row(bucket=bucket, kind=CANCELLATION, payload=payload)
