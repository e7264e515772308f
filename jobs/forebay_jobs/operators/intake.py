"""The first operator: not keyed, so that an exact hit crosses into Python once."""

from collections.abc import Iterator
from typing import Any

import msgspec
from forebay_schemas.config import Config
from forebay_schemas.records import Lane
from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from forebay_jobs.intake import Intake
from forebay_jobs.messages import Arrival, Incoming
from forebay_jobs.runtime import runtime_for
from forebay_jobs.throttle import BatchThrottle

from .rows import ARRIVAL, TO_DESK, now_ms, outgoing_row, raw_bytes


class IntakeOperator(ProcessFunction):
    """Rows of a request topic in; records to write out, and arrivals for the desk to the side."""

    def __init__(self, config: Config, lane: Lane) -> None:
        self._config = config
        self._lane = lane

    def open(self, runtime_context: RuntimeContext) -> None:
        runtime = runtime_for(self._config)
        with runtime.locked():
            self._intake = Intake(
                self._config, runtime.codec, runtime.answers, runtime.metrics, runtime.arms, runtime.pressure
            )
        self._throttle = BatchThrottle(self._config.batch, runtime.pressure)

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self._lane is Lane.BATCH:
            self._throttle.wait()
        record = Incoming(
            topic=value.topic,
            partition=value.partition,
            offset=value.offset,
            value=raw_bytes(value.value),
            headers=value.headers or {},
        )
        for item in self._intake.take(record, self._lane, now_ms()):
            if isinstance(item, Arrival):
                yield TO_DESK, Row(bucket=item.bucket, kind=ARRIVAL, payload=msgspec.msgpack.encode(item))
            else:
                yield outgoing_row(item)
