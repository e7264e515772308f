"""The commands' operator: it hands each to the desk, where there is state."""

from collections.abc import Iterator
from typing import Any

import msgspec
from forebay_schemas.config import Config
from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from forebay_jobs.buckets import bucket_names
from forebay_jobs.control import Commands
from forebay_jobs.messages import Cancel
from forebay_jobs.runtime import runtime_for

from .rows import CANCELLATION, INVALIDATION, raw_bytes


class ControlOperator(ProcessFunction):
    """Rows of the control topic in; cancellations for all buckets of the desk out, and invalidations for one."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def open(self, runtime_context: RuntimeContext) -> None:
        runtime = runtime_for(self._config)
        with runtime.locked():
            self._commands = Commands(runtime.codec, runtime.answers)

    def process_element(self, value: Any, ctx: Any) -> Iterator[Row]:  # pyright: ignore[reportIncompatibleMethodOverride]
        command = self._commands.take(raw_bytes(value.value), f"{value.topic}/{value.partition}/{value.offset}")
        if command is None:
            return
        # In which bucket the request of a cancellation waits is not known.
        buckets = bucket_names(self._config.desk.buckets)
        kind, concerned = (CANCELLATION, buckets) if isinstance(command, Cancel) else (INVALIDATION, buckets[:1])
        for bucket in concerned:
            yield Row(bucket=bucket, kind=kind, payload=msgspec.msgpack.encode(command))
