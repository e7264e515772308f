"""The commands' operator: it hands each to the desk, where there is state."""

from collections.abc import Iterator
from typing import Any

import msgspec
from forebay_schemas.config import Config
from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from forebay_jobs.buckets import bucket_names
from forebay_jobs.control import Commands
from forebay_jobs.messages import Cancel, Forget, Invalidate
from forebay_jobs.runtime import runtime_for

from .rows import CANCELLATION, FORGETTING, INVALIDATION, raw_bytes

_KINDS = {Cancel: CANCELLATION, Invalidate: INVALIDATION, Forget: FORGETTING}


class ControlOperator(ProcessFunction):
    """Rows of the control topic in; invalidations for one bucket of the desk out, and all else for every bucket."""

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
        # In which bucket the request of a cancellation waits is not known, and each has learned something.
        buckets = bucket_names(self._config.desk.buckets)
        for bucket in buckets[:1] if isinstance(command, Invalidate) else buckets:
            yield Row(bucket=bucket, kind=_KINDS[type(command)], payload=msgspec.msgpack.encode(command))
